//! As much JSON as reading figures from a file needs.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate and uses a part"
)]

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Map(BTreeMap<String, Json>),
}

impl Json {
    pub fn parse(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let mut at = 0;
        value(&characters, &mut at)
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            _ => None,
        }
    }

    pub fn map(&self) -> impl Iterator<Item = (&String, &Self)> {
        let map = match self {
            Self::Map(map) => Some(map),
            _ => None,
        };
        map.into_iter().flatten()
    }

    pub fn u64(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Self::Number(number) => Some(*number as u64),
            _ => None,
        }
    }
}

fn skip_space(text: &[char], at: &mut usize) {
    while text[*at].is_whitespace() {
        *at += 1;
    }
}

fn value(text: &[char], at: &mut usize) -> Json {
    skip_space(text, at);
    match text[*at] {
        '{' => {
            let mut map = BTreeMap::new();
            members(text, at, '}', |text, at| {
                let key = string(text, at);
                skip_space(text, at);
                assert_eq!(text[*at], ':');
                *at += 1;
                map.insert(key, value(text, at));
            });
            Json::Map(map)
        }
        '[' => {
            let mut list = Vec::new();
            members(text, at, ']', |text, at| list.push(value(text, at)));
            Json::List(list)
        }
        '"' => Json::Text(string(text, at)),
        _ => {
            let start = *at;
            while !matches!(text[*at], ',' | '}' | ']') && !text[*at].is_whitespace() {
                *at += 1;
            }
            match text[start..*at].iter().collect::<String>().as_str() {
                "null" => Json::Null,
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                number => Json::Number(number.parse().expect("a number")),
            }
        }
    }
}

fn members(text: &[char], at: &mut usize, end: char, mut member: impl FnMut(&[char], &mut usize)) {
    *at += 1;
    loop {
        skip_space(text, at);
        if text[*at] == end {
            *at += 1;
            return;
        }
        member(text, at);
        skip_space(text, at);
        if text[*at] == ',' {
            *at += 1;
        }
    }
}

fn string(text: &[char], at: &mut usize) -> String {
    skip_space(text, at);
    assert_eq!(text[*at], '"');
    *at += 1;
    let mut out = String::new();
    loop {
        let character = text[*at];
        *at += 1;
        match character {
            '"' => return out,
            '\\' => {
                let escaped = text[*at];
                *at += 1;
                match escaped {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'b' => out.push('\u{8}'),
                    'f' => out.push('\u{c}'),
                    'u' => {
                        let code: String = text[*at..*at + 4].iter().collect();
                        *at += 4;
                        let code = u32::from_str_radix(&code, 16).expect("four digits");
                        out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                    }
                    other => out.push(other),
                }
            }
            other => out.push(other),
        }
    }
}
