//! A tree as event XML.
//!
//! XML 1.0, indented where an element holds nothing but elements. GUIDs are in braces, as Windows writes them; all
//! other values are written as the tables have them. Characters that cannot be seen are written as references.

use std::fmt::Write as _;

use super::render::is_plain;
use super::render_tree::{Element, Node, Text};
use super::value;

/// The document, and how many characters it could not hold.
pub(super) fn to_xml(roots: &[Element]) -> (String, usize) {
    let mut writer = Writer {
        out: String::new(),
        unfit: 0,
    };
    for root in roots {
        writer.element(root, 0);
    }
    (writer.out, writer.unfit)
}

struct Writer {
    out: String,
    unfit: usize,
}

impl Writer {
    fn element(&mut self, element: &Element, indent: usize) {
        let name = self.name(&element.name);
        self.indent(indent);
        self.out.push('<');
        self.out.push_str(&name);
        let mut seen: Vec<&str> = Vec::new();
        for (attribute, value) in &element.attributes {
            // A second attribute of one name would be no XML.
            if seen.contains(&attribute.as_str()) {
                self.unfit += value.text.chars().count();
                continue;
            }
            seen.push(attribute);
            let attribute = self.name(attribute);
            self.out.push(' ');
            self.out.push_str(&attribute);
            self.out.push_str("=\"");
            self.text(value, true);
            self.out.push('"');
        }
        if element.content.is_empty() {
            self.out.push_str("/>\n");
            return;
        }
        self.out.push('>');
        if holds_elements_only(element) {
            self.out.push('\n');
            for node in &element.content {
                if let Node::Element(child) = node {
                    self.element(child, indent + 1);
                }
            }
            self.indent(indent);
        } else {
            self.mixed(element);
        }
        self.out.push_str("</");
        self.out.push_str(&name);
        self.out.push_str(">\n");
    }

    /// Content in which blanks mean something: nothing is added to it.
    fn mixed(&mut self, element: &Element) {
        for node in &element.content {
            match node {
                Node::Text(text) => self.text(text, false),
                Node::Element(child) => {
                    self.element(child, 0);
                    self.out.pop();
                }
            }
        }
    }

    fn indent(&mut self, indent: usize) {
        for _ in 0..indent {
            self.out.push_str("  ");
        }
    }

    fn text(&mut self, text: &Text, in_attribute: bool) {
        let is_guid = text.type_code == value::GUID;
        if is_guid {
            self.out.push('{');
        }
        for character in text.text.chars() {
            self.character(character, in_attribute);
        }
        if is_guid {
            self.out.push('}');
        }
    }

    fn character(&mut self, character: char, in_attribute: bool) {
        match character {
            '&' => self.out.push_str("&amp;"),
            '<' => self.out.push_str("&lt;"),
            '>' => self.out.push_str("&gt;"),
            '"' if in_attribute => self.out.push_str("&quot;"),
            '\n' | '\t' if !in_attribute => self.out.push(character),
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                self.unfit += 1;
                self.out.push(char::REPLACEMENT_CHARACTER);
            }
            _ if is_plain(character) => self.out.push(character),
            // Writing to a String does not fail.
            _ => {
                let _ = write!(self.out, "&#x{:X};", u32::from(character));
            }
        }
    }

    /// A name with `_` for what no name may hold.
    fn name(&mut self, name: &str) -> String {
        let mut fit = String::with_capacity(name.len());
        for (place, character) in name.chars().enumerate() {
            let may_begin = character.is_alphabetic() || character == '_';
            let may_follow = character.is_alphanumeric() || matches!(character, '-' | '.' | ':');
            if may_begin || (place > 0 && may_follow) {
                fit.push(character);
            } else {
                self.unfit += 1;
                fit.push('_');
            }
        }
        fit
    }
}

/// Whether all text in an element is indentation of the template.
fn holds_elements_only(element: &Element) -> bool {
    let mut elements = 0;
    element.content.iter().all(|node| match node {
        Node::Element(_) => {
            elements += 1;
            true
        }
        Node::Text(text) => text.text.trim_ascii().is_empty(),
    }) && elements > 0
}
