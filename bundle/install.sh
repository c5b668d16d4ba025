#!/bin/sh
# The first installation from a stick, on a machine that has nothing of the program yet.
#
# Check this stick first, by the two commands of the printed card: only they make sure that this file is the one that was
# signed. Then:  sh install.sh DEST FINGERPRINT
#
# Nothing of the stick runs before its bytes were verified, and what is unpacked is what was verified: the archive is copied
# first, and the copy is hashed. Everything happens in one new private folder below DEST, which is removed at the end; a
# run that was interrupted leaves at most such a folder, and the next run removes it.
#
# Needs a POSIX shell, ssh-keygen (openssh-client), and sha256sum, tar, find, grep, sed, sort, cmp and the like as every
# Linux has them. No root, no network, no Python.

set -eu
set -f
umask 022
LC_ALL=C
export LC_ALL
unset CDPATH GREP_OPTIONS TAR_OPTIONS POSIXLY_CORRECT

NAMESPACE='casparian-stick@v1'
IDENTITY='release@casparian'
# What a path of the signed list may be: nothing that leads elsewhere, nothing that a shell or a tool could take for more.
PART='[A-Za-z0-9_][A-Za-z0-9._+@-]*'
LISTED="^[0-9a-f]{64}  ($PART/)*$PART\$"

usage() {
  cat <<'END'
usage: sh install.sh DEST FINGERPRINT [--home DIR]
       sh install.sh --verify-only FINGERPRINT

  DEST           where the program goes, for example /opt/casparian or $HOME/casparian
  FINGERPRINT    of the release key, as the printed card has it: SHA256:…
  --home DIR     the home of the program's data, for `casparian --home`
  --verify-only  check the whole stick, change nothing

exit codes: 0 done, 1 failed, 2 usage, 3 a tool is missing, 4 refused: the stick is not what it should be,
            5 this machine cannot take it (space, permission, platform); any other is the installed program's own
END
}

refuse() { # code, reason
  printf 'REFUSED: %s\n' "$2" >&2
  exit "$1"
}

misused() {
  printf '%s\n\n' "$1" >&2
  usage >&2
  exit 2
}

stage=''
made_dest=''
child=''
clean() {
  code=$?
  trap - EXIT HUP INT TERM
  if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null && wait "$child" 2>/dev/null || :; fi
  if [ -n "$stage" ]; then rm -rf -- "$stage"; fi
  if [ "$code" -ne 0 ] && [ -n "$made_dest" ]; then rmdir -- "$made_dest" 2>/dev/null || :; fi
  exit "$code"
}

absolute() { # a path that no tool takes for an option
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$(pwd -P)" "$1" ;;
  esac
}

# -- what was asked --------------------------------------------------------------------------------

verify_only='' dest='' typed='' home=''
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --verify-only) verify_only=yes ;;
    --home) [ $# -ge 2 ] || misused '--home needs a folder'; home=$2; shift ;;
    --home=*) home=${1#--home=} ;;
    -*) misused "there is no option $1" ;;
    SHA256:*) [ -z "$typed" ] || misused 'two fingerprints were given'; typed=$1 ;;
    *) [ -z "$dest" ] || misused "too much was given: $1"; dest=$1 ;;
  esac
  shift
done
[ -n "$typed" ] || misused 'the fingerprint is missing: it stands on the printed card and begins with SHA256:'
if [ -z "$verify_only" ]; then [ -n "$dest" ] || misused 'DEST is missing'; fi
typed=$(printf '%s' "$typed" | tr -d ' ')

for tool in ssh-keygen sha256sum tar find grep sed sort uniq cmp tr cut head wc mktemp df uname dirname cp rm; do
  command -v "$tool" >/dev/null 2>&1 || refuse 3 "the tool $tool is missing on this machine"
done

stick=$(dirname -- "$0")
stick=$(cd -- "$stick" && pwd -P) || refuse 1 'the folder of install.sh cannot be entered'
[ -f "$stick/SHA256SUMS" ] && [ -f "$stick/SHA256SUMS.sig" ] ||
  refuse 4 'SHA256SUMS or its signature is missing beside install.sh'

trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# -- a private folder, below DEST so that everything stays on one file system ------------------------

if [ -n "$verify_only" ]; then
  stage=$(mktemp -d "${TMPDIR:-/tmp}/casparian-verify.XXXXXXXX") || refuse 5 'no temporary folder can be made'
else
  dest=$(absolute "$dest")
  case $dest/ in
    "$stick"/*) refuse 5 'DEST lies on the stick itself' ;;
    *'
'*) misused 'DEST has a line feed in its name' ;;
  esac
  if [ ! -d "$dest" ]; then
    mkdir -- "$dest" 2>/dev/null ||
      refuse 5 "$dest cannot be made: is the folder above it there, and may you write to it?"
    made_dest=$dest
  fi
  # What an interrupted run left: its folder has the number of a process that is no more.
  set +f
  for old in "$dest"/.install-*; do
    [ -d "$old" ] && [ ! -L "$old" ] || continue
    owner=${old##*/.install-}
    owner=${owner%%.*}
    kill -0 "$owner" 2>/dev/null || rm -rf -- "$old"
  done
  set -f
  stage=$(mktemp -d "$dest/.install-$$.XXXXXXXX" 2>/dev/null) || refuse 5 "you may not write to $dest"
fi

# -- the key is the card's, the signature is the key's -----------------------------------------------

# Copies: what is looked at twice must be the same both times, whatever the stick says a moment later.
for name in SHA256SUMS SHA256SUMS.sig trust/release.pub; do
  [ -f "$stick/$name" ] && [ ! -L "$stick/$name" ] || refuse 4 "$name is missing, or is no plain file"
  head -c 4194305 -- "$stick/$name" >"$stage/${name##*/}" || refuse 4 "$name cannot be read"
done
[ "$(grep -c '' "$stage/release.pub")" = 1 ] || refuse 4 'trust/release.pub does not hold one key'
kind=$(cut -d' ' -f1 "$stage/release.pub")
public=$(cut -d' ' -f2 "$stage/release.pub")
[ "$kind" = ssh-ed25519 ] || refuse 4 'trust/release.pub holds no Ed25519 key'
case $public in
  '' | *[!A-Za-z0-9+/=]*) refuse 4 'trust/release.pub is damaged' ;;
esac
printf '%s %s\n' "$kind" "$public" >"$stage/key.pub"
found=$(ssh-keygen -lf "$stage/key.pub" 2>/dev/null | cut -d' ' -f2) || found=''
[ -n "$found" ] || refuse 4 'trust/release.pub is damaged'
[ "$found" = "$typed" ] || refuse 4 "the key of this stick is $found, the card says $typed"
printf '%s namespaces="%s" %s %s\n' "$IDENTITY" "$NAMESPACE" "$kind" "$public" >"$stage/allowed"
ssh-keygen -Y verify -f "$stage/allowed" -I "$IDENTITY" -n "$NAMESPACE" -s "$stage/SHA256SUMS.sig" \
  <"$stage/SHA256SUMS" >/dev/null 2>&1 || refuse 4 'the signature does not fit SHA256SUMS'

# `ssh-keygen` reads no further than the last line's dashes; what stands behind them was not written by us.
[ "$(sed -n '$p' "$stage/SHA256SUMS.sig")" = '-----END SSH SIGNATURE-----' ] ||
  refuse 4 'SHA256SUMS.sig is damaged: it does not end as a signature does'

# -- every listed file is there and is itself, and there is no other ---------------------------------

if grep -a -v '^#' "$stage/SHA256SUMS" | grep -a -q -v -E "$LISTED"; then
  refuse 4 'SHA256SUMS holds a line that is not a hash and a plain path'
fi
grep -a -v '^#' "$stage/SHA256SUMS" >"$stage/sums" || refuse 4 'SHA256SUMS lists nothing'
cd -- "$stick"
odd=$(find . ! -type f ! -type d -print 2>"$stage/said" | head -n 1)
[ -z "$odd" ] || refuse 4 "$odd is neither a plain file nor a folder"
{ cut -c67- "$stage/sums"; printf 'SHA256SUMS\nSHA256SUMS.sig\n'; } | sort >"$stage/listed"
find . -type f -print 2>"$stage/said" | sed 's|^\./||' | sort >"$stage/there"
if ! cmp -s "$stage/listed" "$stage/there"; then
  odd=$(sort "$stage/there" "$stage/listed" "$stage/listed" | uniq -u | head -n 1)
  [ -z "$odd" ] || refuse 4 "a file is there that was not signed: $odd"
  odd=$(sort "$stage/listed" "$stage/there" "$stage/there" | uniq -u | head -n 1)
  [ -z "$odd" ] || refuse 4 "a file is missing: $odd"
  refuse 4 'a name stands twice, in the signed list or on the stick'
fi

remark() { # name: its value in the head of the signed list
  sed -n "s/^# $1 //p" "$stage/SHA256SUMS" | head -n 1
}
version=$(remark version)
machine=$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
archive='' kib=0
if [ -z "$verify_only" ]; then
  offer=$(remark "payload $machine")
  [ -n "$offer" ] || refuse 5 "this machine is $machine; the stick holds no program for it"
  archive=${offer% *}
  kib=${offer##* }
  case $kib in '' | *[!0-9]*) refuse 4 'SHA256SUMS does not say how much space is needed' ;; esac
  line=$(grep -a -F -x -e "$(grep -a -F -e "  $archive" "$stage/sums" | head -n 1)" "$stage/sums") || line=''
  [ "${line#*  }" = "$archive" ] || refuse 4 "SHA256SUMS does not list $archive"
  size=$(($(wc -c <"$archive") / 1024 + 1))
  free=$(df -P -k "$stage" | sed -n '$p' | sed 's/  */ /g' | cut -d' ' -f4)
  case $free in '' | *[!0-9]*) free=0 ;; esac
  [ "$free" -ge $((kib + size)) ] ||
    refuse 5 "$dest has $((free / 1024)) MiB free, $(((kib + size) / 1024 + 1)) MiB are needed"
fi

printf 'checking every file of the stick\n' >&2
sha256sum --check --strict --quiet "$stage/sums" >"$stage/said" 2>&1 || {
  odd=$(grep -a -m 1 ': FAILED' "$stage/said" | sed 's/: FAILED.*//') || odd=''
  refuse 4 "${odd:-a file} is not the file that was signed"
}
if [ -n "$verify_only" ]; then
  printf 'good: version %s, signed by %s\n' "$version" "$found"
  exit 0
fi

# -- copy, check the copy, unpack the copy -------------------------------------------------------------

printf 'copying the program\n' >&2
cp -- "$archive" "$stage/payload.tar" 2>/dev/null || refuse 5 'the program cannot be copied: the disk is full, or the stick is gone'
printf '%s  %s\n' "${line%%  *}" payload.tar >"$stage/copied"
(cd -- "$stage" && sha256sum --check --strict --quiet copied >/dev/null 2>&1) ||
  refuse 4 "$archive changed while it was copied"
tar -tvf "$stage/payload.tar" >"$stage/members" 2>/dev/null || refuse 4 "$archive is no archive"
if grep -a -q -v '^-' "$stage/members"; then
  refuse 4 "$archive holds something else than plain files"
fi
tar -tf "$stage/payload.tar" >"$stage/names" 2>/dev/null || refuse 4 "$archive is no archive"
if grep -a -q -E '(^/|(^|/)\.\.?(/|$)|\\|^$)' "$stage/names"; then
  refuse 4 "$archive holds a path that leads elsewhere"
fi
printf 'unpacking the program\n' >&2
mkdir -m 700 -- "$stage/tree"
tar -x -k -o -f "$stage/payload.tar" -C "$stage/tree" 2>"$stage/said" ||
  refuse 5 "the program cannot be unpacked: $(head -n 1 "$stage/said")"
rm -f -- "$stage/payload.tar"
program=$stage/tree/bin/casparian
[ -f "$program" ] || refuse 4 "$archive holds no program"

# -- the program verifies all of it once more, in its own way, and installs it -------------------------

set -- bundle install --stick "$stick" --staged "$stage/tree" --into "$dest" --fingerprint "$found"
if [ -n "$home" ]; then set -- --home "$(absolute "$home")" "$@"; fi
cd /
code=0
"$program" "$@" &
child=$!
wait "$child" || code=$?
child=''
if [ "$code" = 126 ] || [ "$code" = 127 ]; then
  refuse 5 "the program cannot be started from $dest: is it mounted noexec, or is this system too old?"
fi
[ "$code" = 0 ] || exit "$code"
printf 'installed version %s: %s/bin/casparian\n' "$version" "$dest"
