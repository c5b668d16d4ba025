//! Giving every capability up, for this process and for all that it could become.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};

/// The kernel knows 41; those that it does not know answer EINVAL.
const KNOWN_MAX: u32 = 64;

/// Empty the bounding set and lock the rights of uid 0, as far as this process may.
///
/// Both need CAP_SETPCAP, so this is for the zygote, before it drops what it has; an ordinary user has
/// no capability that a bounding set could hold back, and `no_new_privs` keeps it so.
pub(crate) fn give_up_bounding() {
    for capability in each() {
        // Refused without CAP_SETPCAP: the record is read back from the kernel, not from here.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED;
    let _ = set_capabilities_secure_bits(bits);
}

/// Drop ambient, effective, permitted and inheritable ones; says what is left: `none`, or which sets.
pub(crate) fn drop_all() -> Result<String, Errno> {
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {} // no such set before Linux 4.3
        Err(error) => return Err(error),
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none)?;
    if capabilities(None)? != none {
        return Err(Errno::PERM);
    }
    // The first that the kernel does not know is an error, and those after it too.
    let known = each().map_while(|one| capability_is_in_bounding_set(one).ok());
    let bounding = known.filter(|is_in| *is_in);
    Ok(match bounding.count() {
        0 => "none".to_owned(),
        left => format!("none, {left} in the bounding set"),
    })
}

fn each() -> impl Iterator<Item = CapabilitySet> {
    (0..KNOWN_MAX).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
}
