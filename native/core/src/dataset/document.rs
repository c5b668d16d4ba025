//! The contract of a dataset as its document says it.

use serde_json::{Map, Value as Json};

use crate::delimited::{Encoding, Escape, Layout};
use crate::error::CoreError;
use crate::text::{Format, Nulls, Spec};

/// Where the values of a column stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the cell below this name. The second cell of a name is called `NAME#2`, and so on.
    Cell(String),
    /// Behind these keys, one within the other.
    Path(Vec<String>),
}

/// What a column holds, and how it is written.
#[derive(Debug, Clone)]
pub struct ColumnSpec {
    /// Its name in the table.
    pub name: String,
    /// Where its values stand.
    pub source: Source,
    /// Its type by name.
    pub type_name: String,
    /// Reads its values.
    pub format: Format,
    /// What means null.
    pub nulls: Nulls,
    /// Whether a row may lack it.
    pub nullable: bool,
    /// Type and format as a person reads them.
    pub wanted: String,
}

/// How the text is cut.
#[derive(Debug, Clone)]
pub enum TextForm {
    /// In records and cells.
    Delimited {
        /// Delimiter, quotes and the rest.
        layout: Layout,
        /// Every header that is known; without headers in the files, names for the cells of every known width.
        headers: Vec<Vec<String>>,
    },
    /// In lines, each a JSON object.
    Jsonl {
        /// Paths that are known beside those of the columns.
        known: Vec<Vec<String>>,
    },
}

/// The contract of one table.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Name of the table.
    pub table: String,
    /// How the text is cut.
    pub form: TextForm,
    /// The columns, in order.
    pub columns: Vec<ColumnSpec>,
}

/// More columns than any contract may have.
const COLUMNS_MAX: usize = 4_096;
const SCHEMA_VERSION: i64 = 1;

impl Dataset {
    /// Read a document.
    ///
    /// # Errors
    /// [`CoreError::Contract`] says what is wrong, and in which column.
    pub fn parse(document: &str) -> Result<Self, CoreError> {
        let json: Json = serde_json::from_str(document)
            .map_err(|error| wrong(format!("it is not JSON: {error}")))?;
        let top = Object::of(&json, "the document")?;
        if top.get("schema_version").and_then(Json::as_i64) != Some(SCHEMA_VERSION) {
            return Err(wrong(format!("`schema_version` is not {SCHEMA_VERSION}")));
        }
        let parser = top.text("parser")?;
        let layout = Object::of(top.need("layout")?, "`layout`")?;
        let form = match parser {
            "text.delimited" => delimited(&layout)?,
            "text.jsonl" => jsonl(&layout)?,
            _ => return Err(wrong(format!("the parser `{parser}` has no datasets"))),
        };
        let columns = array(top.need("columns")?, "`columns`")?;
        if columns.is_empty() || columns.len() > COLUMNS_MAX {
            return Err(wrong(format!("it has {} columns", columns.len())));
        }
        let dataset = Self {
            table: top.text("table")?.to_owned(),
            columns: columns
                .iter()
                .map(|column| self::column(column, &form))
                .collect::<Result<_, _>>()?,
            form,
        };
        dataset.check_sources()?;
        Ok(dataset)
    }

    /// A column whose source no known header has can never have a value: a slip of whoever wrote the contract.
    fn check_sources(&self) -> Result<(), CoreError> {
        let TextForm::Delimited { headers, .. } = &self.form else {
            return Ok(());
        };
        if headers.is_empty() {
            return Err(wrong(
                "`headers` is empty: no file could ever fit".to_owned(),
            ));
        }
        for column in &self.columns {
            let Source::Cell(name) = &column.source else {
                continue;
            };
            let is_known = |header: &Vec<String>| cell_index(header, name).is_some();
            if !headers.iter().any(is_known) {
                return Err(wrong(format!(
                    "column `{}` comes from `{name}`, which is in none of the `headers`",
                    column.name
                )));
            }
        }
        Ok(())
    }
}

/// Which cell of a header has this name; `NAME#2` is the second of that name, unless a cell is called so.
pub(crate) fn cell_index(header: &[String], name: &str) -> Option<usize> {
    if let Some(found) = header.iter().position(|cell| cell == name) {
        return Some(found);
    }
    let (plain, number) = name.rsplit_once('#')?;
    let number: usize = number.parse().ok().filter(|number| *number >= 2)?;
    let mut same = header.iter().enumerate().filter(|(_, cell)| *cell == plain);
    same.nth(number - 1).map(|(index, _)| index)
}

fn delimited(layout: &Object<'_>) -> Result<TextForm, CoreError> {
    let defaults = Layout::default();
    let quote = match layout.get("quote") {
        None => defaults.quote,
        Some(Json::Null) => None,
        Some(_) => single(layout.text("quote")?, "quote")?,
    };
    let escape = match layout.get("escape") {
        None if quote.is_some() => Escape::Doubled,
        None | Some(Json::Null) => Escape::None,
        Some(_) => match layout.text("escape")? {
            "none" => Escape::None,
            "double" => Escape::Doubled,
            "backslash" => Escape::Byte(b'\\'),
            other => single(other, "escape")?.map_or(Escape::None, Escape::Byte),
        },
    };
    let encoding = layout.get("encoding").map(|_| layout.text("encoding"));
    let encoding = match encoding {
        None => Encoding::Utf8,
        Some(name) => {
            let name = name?;
            Encoding::named(name).ok_or_else(|| wrong(format!("`{name}` is no known encoding")))?
        }
    };
    let result = Layout {
        delimiter: match layout.get("delimiter") {
            None => defaults.delimiter.clone(),
            Some(_) => layout.text("delimiter")?.to_owned(),
        },
        quote,
        escape,
        header: layout.boolean("header", true)?,
        skip_lines: match layout.get("skip_lines") {
            None => 0,
            Some(lines) => lines
                .as_u64()
                .ok_or_else(|| wrong("`skip_lines` is not a count".to_owned()))?,
        },
        comment: match layout.get("comment") {
            None | Some(Json::Null) => None,
            Some(_) => Some(layout.text("comment")?.to_owned()),
        },
        encoding,
        ..defaults
    };
    result.check().map_err(|error| wrong(error.to_string()))?;
    Ok(TextForm::Delimited {
        layout: result,
        headers: array(layout.need("headers")?, "`headers`")?
            .iter()
            .map(|header| texts(header, "a header"))
            .collect::<Result<_, _>>()?,
    })
}

fn jsonl(layout: &Object<'_>) -> Result<TextForm, CoreError> {
    let encoding = layout.get("encoding").and_then(Json::as_str);
    // Which of these it is, the bytes tell: JSON has no other encodings.
    if !matches!(encoding, None | Some("utf-8" | "utf-16le" | "utf-16be")) {
        return Err(wrong("JSON Lines are UTF-8 or UTF-16".to_owned()));
    }
    let known = match layout.get("known") {
        None => Vec::new(),
        Some(known) => array(known, "`known`")?
            .iter()
            .map(|path| texts(path, "a path of `known`"))
            .collect::<Result<_, _>>()?,
    };
    Ok(TextForm::Jsonl { known })
}

fn column(json: &Json, form: &TextForm) -> Result<ColumnSpec, CoreError> {
    let column = Object::of(json, "a column")?;
    let name = column.text("name")?.to_owned();
    let of_column = |what: String| wrong(format!("column `{name}`: {what}"));
    let source = match (form, column.get("source")) {
        (TextForm::Delimited { .. }, None) => Source::Cell(name.clone()),
        (TextForm::Delimited { .. }, Some(Json::String(source))) => Source::Cell(source.clone()),
        (TextForm::Jsonl { .. }, None) => Source::Path(vec![name.clone()]),
        (TextForm::Jsonl { .. }, Some(Json::String(source))) => Source::Path(vec![source.clone()]),
        (TextForm::Jsonl { .. }, Some(source)) => {
            let path = texts(source, "`source`")?;
            if path.is_empty() {
                return Err(of_column("`source` names no key".to_owned()));
            }
            Source::Path(path)
        }
        (TextForm::Delimited { .. }, Some(_)) => {
            return Err(of_column("`source` is not the name of a cell".to_owned()));
        }
    };
    let type_name = column.text("type")?.to_owned();
    let optional = |key: &str| match column.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(_) => column.text(key).map(Some),
    };
    let (zone, meaning) = (optional("zone")?, optional("meaning")?);
    // The grammar of values has the separator of groups among the words of the format.
    let grouped = optional("group")?.map(|group| {
        let group = if group == " " { "space" } else { group };
        (group, optional("format"))
    });
    let format = match grouped {
        None => optional("format")?.map(str::to_owned),
        Some((group, format)) => {
            let plain = if type_name.contains("int") {
                "decimal"
            } else {
                "point"
            };
            Some(format!("{} group {group}", format?.unwrap_or(plain)))
        }
    };
    let format = format.as_deref();
    let spec = Spec {
        type_name: &type_name,
        format,
        zone,
        meaning,
    };
    let reader = Format::new(&spec).map_err(|error| of_column(error.to_string()))?;
    if reader.lists() > 1 || (reader.lists() == 1 && matches!(form, TextForm::Delimited { .. })) {
        return Err(of_column(
            "lists of lists, and lists in a cell, are kept as text".to_owned(),
        ));
    }
    let mut wanted = type_name.clone();
    for word in [meaning, format, zone].into_iter().flatten() {
        wanted.push_str(", ");
        wanted.push_str(word);
    }
    let nulls = match column.get("null") {
        None => Nulls::default(),
        Some(words) => Nulls::new(texts(words, "`null`")?),
    };
    Ok(ColumnSpec {
        source,
        format: reader,
        nulls,
        nullable: column.boolean("nullable", true)?,
        wanted,
        type_name,
        name,
    })
}

/// A quote or an escape: one character, or nothing.
fn single(text: &str, key: &str) -> Result<Option<u8>, CoreError> {
    match text.as_bytes() {
        [] => Ok(None),
        [byte] => Ok(Some(*byte)),
        _ => Err(wrong(format!("`{key}` is not one ASCII character"))),
    }
}

fn array<'a>(json: &'a Json, what: &str) -> Result<&'a [Json], CoreError> {
    json.as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| wrong(format!("{what} is not a list")))
}

fn texts(json: &Json, what: &str) -> Result<Vec<String>, CoreError> {
    let text = |item: &Json| {
        item.as_str()
            .map(str::to_owned)
            .ok_or_else(|| wrong(format!("{what} holds something that is not text")))
    };
    array(json, what)?.iter().map(text).collect()
}

struct Object<'a>(&'a Map<String, Json>);

impl<'a> Object<'a> {
    fn of(json: &'a Json, what: &str) -> Result<Self, CoreError> {
        json.as_object()
            .map(Self)
            .ok_or_else(|| wrong(format!("{what} is not an object")))
    }

    fn get(&self, key: &str) -> Option<&'a Json> {
        self.0.get(key)
    }

    fn need(&self, key: &str) -> Result<&'a Json, CoreError> {
        self.get(key)
            .ok_or_else(|| wrong(format!("`{key}` is missing")))
    }

    fn text(&self, key: &str) -> Result<&'a str, CoreError> {
        self.need(key)?
            .as_str()
            .ok_or_else(|| wrong(format!("`{key}` is not text")))
    }

    fn boolean(&self, key: &str, default: bool) -> Result<bool, CoreError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| wrong(format!("`{key}` is neither true nor false"))),
        }
    }
}

fn wrong(reason: String) -> CoreError {
    CoreError::Contract { reason }
}
