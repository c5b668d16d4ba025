//! Where a value of an event goes: a column of its own, or the lists under a name.

/// The System values that have a column.
///
/// Everything else of System, and whatever does not fit its column, goes to the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    EventId,
    Qualifiers,
    Version,
    Level,
    Task,
    Opcode,
    Keywords,
    ProcessId,
    ThreadId,
    RecordId,
    TimeCreated,
    ProviderName,
    EventSourceName,
    Channel,
    Computer,
    ProviderGuid,
    ActivityId,
    RelatedActivityId,
    UserSid,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An unsigned integer up to this.
    Number(u64),
    Time,
    Text,
    Guid,
    Sid,
}

impl Column {
    /// How many columns there are.
    pub(super) const COUNT: usize = Self::UserSid as usize + 1;

    /// The column of an element's own text, by the element's name below `System`.
    pub(super) fn of_element(element: &str) -> Option<Self> {
        Some(match element {
            "EventID" => Self::EventId,
            "Version" => Self::Version,
            "Level" => Self::Level,
            "Task" => Self::Task,
            "Opcode" => Self::Opcode,
            "Keywords" => Self::Keywords,
            "EventRecordID" => Self::RecordId,
            "Channel" => Self::Channel,
            "Computer" => Self::Computer,
            _ => return None,
        })
    }

    /// The column of an attribute, by the element's name below `System` and its own.
    pub(super) fn of_attribute(element: &str, attribute: &str) -> Option<Self> {
        Some(match (element, attribute) {
            ("Provider", "Name") => Self::ProviderName,
            ("Provider", "Guid") => Self::ProviderGuid,
            ("Provider", "EventSourceName") => Self::EventSourceName,
            ("EventID", "Qualifiers") => Self::Qualifiers,
            ("TimeCreated", "SystemTime") => Self::TimeCreated,
            ("Correlation", "ActivityID") => Self::ActivityId,
            ("Correlation", "RelatedActivityID") => Self::RelatedActivityId,
            ("Execution", "ProcessID") => Self::ProcessId,
            ("Execution", "ThreadID") => Self::ThreadId,
            ("Security", "UserID") => Self::UserSid,
            _ => return None,
        })
    }

    /// Whether an element below `System` is known for attributes that have columns: without any of
    /// them it says nothing.
    pub(super) fn has_attributes_of(element: &str) -> bool {
        matches!(
            element,
            "Provider" | "TimeCreated" | "Correlation" | "Execution" | "Security"
        )
    }

    /// What the column holds.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Version | Self::Level | Self::Opcode => Kind::Number(u8::MAX as u64),
            Self::Task => Kind::Number(u16::MAX as u64),
            Self::EventId | Self::Qualifiers | Self::ProcessId | Self::ThreadId => {
                Kind::Number(u32::MAX as u64)
            }
            Self::Keywords | Self::RecordId => Kind::Number(u64::MAX),
            Self::TimeCreated => Kind::Time,
            Self::ProviderName | Self::EventSourceName | Self::Channel | Self::Computer => {
                Kind::Text
            }
            Self::ProviderGuid | Self::ActivityId | Self::RelatedActivityId => Kind::Guid,
            Self::UserSid => Kind::Sid,
        }
    }
}

/// What an element is, by where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// The root of an event.
    Event,
    /// `Event/System`.
    System,
    /// A child of System: it and its attributes may have columns.
    SystemField,
    /// Deeper in System.
    SystemDeep,
    /// Another child of Event: EventData, UserData, RenderingInfo, ...
    Payload,
    /// A `Data` of EventData, known by its `Name`.
    Data,
    /// Anything else in a payload.
    Inner,
    /// The root of something that is no event, or below it.
    Foreign,
}

impl Role {
    /// The role of `name` below an element of role `parent` that stands at `path`.
    pub(super) fn below(parent: Option<Self>, path: &str, name: &str) -> Self {
        match parent {
            None if name == "Event" => Self::Event,
            None | Some(Self::Foreign) => Self::Foreign,
            Some(Self::Event) if name == "System" => Self::System,
            Some(Self::Event) => Self::Payload,
            Some(Self::System) => Self::SystemField,
            Some(Self::SystemField | Self::SystemDeep) => Self::SystemDeep,
            Some(Self::Payload) if path == "EventData" && name == "Data" => Self::Data,
            Some(Self::Payload | Self::Data | Self::Inner) => Self::Inner,
        }
    }

    /// Whether paths are shown without the payload's own name, as long as it is the event's payload.
    pub(super) fn is_payload(self) -> bool {
        matches!(self, Self::Payload | Self::Data | Self::Inner)
    }
}

/// Where a fragment stands in the event that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Context<'a> {
    /// It is the whole event.
    Document,
    /// It is the content of the element at this path.
    Within {
        /// Element names below Event, joined by `/`; empty for Event itself.
        path: &'a str,
        /// That element's role.
        role: Role,
    },
}

/// The context of an event's payload: directly below Event.
pub(super) const BELOW_EVENT: Context<'static> = Context::Within {
    path: "",
    role: Role::Event,
};

/// The name of a value in the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label<'a> {
    /// A path.
    Path {
        /// With the payload's name in front.
        full: &'a str,
        /// Where the part begins that is shown in the event's own payload; `None` when it has no name.
        own_from: Option<usize>,
    },
    /// A name that the record itself gave.
    Given(&'a str),
}

impl<'a> Label<'a> {
    /// The name in the event's own payload.
    #[inline]
    pub(super) fn own(self) -> Option<&'a str> {
        match self {
            Self::Path { full, own_from } => full.get(own_from?..),
            Self::Given(name) => Some(name),
        }
    }

    /// The name in any other payload.
    pub(super) fn full(self) -> &'a str {
        match self {
            Self::Path { full, .. } => full,
            Self::Given(name) => name,
        }
    }
}

/// All that is known of a value before it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Its column, when it has one.
    pub(super) column: Option<Column>,
    /// Its name in the lists.
    pub(super) label: Label<'a>,
    /// Where nested BinXML would stand; `None` for an attribute, which can hold none.
    pub(super) nested: Option<Context<'a>>,
}
