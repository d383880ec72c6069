//! Template text into tokens.

use super::super::json::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Text(String),
    Open,
    Close,
    /// `.` alone.
    Dot,
    /// `.Name`, and whether a blank stands before it.
    Field {
        name: String,
        apart: bool,
    },
    Variable(String),
    Word(String),
    Literal(Value),
    Pipe,
    Comma,
    Declare,
    Assign,
    ParenOpen,
    ParenClose,
}

/// A token and where it begins: line from 1, byte of the line from 0.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) line: usize,
    pub(super) column: usize,
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    out: Vec<Placed>,
}

pub(super) fn lex(source: &str) -> Result<Vec<Placed>, String> {
    let mut lexer = Lexer {
        source,
        at: 0,
        out: Vec::new(),
    };
    lexer.text()?;
    Ok(lexer.out)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or("")
    }

    fn line(&self, at: usize) -> usize {
        1 + self
            .source
            .as_bytes()
            .iter()
            .take(at)
            .filter(|b| **b == b'\n')
            .count()
    }

    fn push(&mut self, token: Token, at: usize) {
        let before = self.source.get(..at).unwrap_or("");
        let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
        self.out.push(Placed {
            token,
            line: self.line(at),
            column,
        });
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("template: :{}: {what}", self.line(self.at)))
    }

    /// Text and the actions in it, to the end.
    fn text(&mut self) -> Result<(), String> {
        let mut trim_next = false;
        loop {
            let rest = self.rest();
            let end = rest.find("{{").unwrap_or(rest.len());
            let mut text = &rest[..end];
            if trim_next {
                text = text.trim_start();
            }
            let trims = rest[end..]
                .strip_prefix("{{-")
                .is_some_and(|r| r.starts_with(char::is_whitespace));
            if trims {
                text = text.trim_end();
            }
            if !text.is_empty() {
                let at = self.at;
                self.push(Token::Text(text.to_owned()), at);
            }
            self.at += end;
            if self.rest().is_empty() {
                return Ok(());
            }
            let at = self.at;
            self.at += if trims { 3 } else { 2 };
            if self.rest().trim_start().starts_with("/*") {
                trim_next = self.comment()?;
                continue;
            }
            self.push(Token::Open, at);
            trim_next = self.action()?;
        }
    }

    fn comment(&mut self) -> Result<bool, String> {
        let Some(end) = self.rest().find("*/") else {
            return self.fail("unclosed comment");
        };
        self.at += end + 2;
        let tail = self.rest().trim_start();
        let skipped = self.rest().len() - tail.len();
        let (length, trims) = match () {
            () if tail.starts_with("-}}") => (3, true),
            () if tail.starts_with("}}") => (2, false),
            () => return self.fail("comment ends before closing delimiter"),
        };
        self.at += skipped + length;
        Ok(trims)
    }

    /// Tokens up to the closing braces; whether they trim what follows.
    fn action(&mut self) -> Result<bool, String> {
        let mut apart = true;
        loop {
            let at = self.at;
            let rest = self.rest();
            if rest.starts_with("}}") {
                self.push(Token::Close, at);
                self.at += 2;
                return Ok(false);
            }
            let Some(first) = rest.chars().next() else {
                return self.fail("unclosed action");
            };
            if first.is_whitespace() {
                if rest.trim_start().starts_with("-}}") {
                    self.at += rest.len() - rest.trim_start().len() + 3;
                    self.push(Token::Close, at);
                    return Ok(true);
                }
                self.at += first.len_utf8();
                apart = true;
                continue;
            }
            let (token, length) = self.token(first, rest, apart)?;
            self.push(token, at);
            self.at += length;
            apart = false;
        }
    }

    fn token(&self, first: char, rest: &str, apart: bool) -> Result<(Token, usize), String> {
        let word = |text: &str| {
            text.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(text.len())
        };
        let numeric = |c: char| c.is_ascii_digit();
        Ok(match first {
            '|' => (Token::Pipe, 1),
            ',' => (Token::Comma, 1),
            '(' => (Token::ParenOpen, 1),
            ')' => (Token::ParenClose, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '$' => {
                let length = word(&rest[1..]);
                (Token::Variable(rest[1..=length].to_owned()), length + 1)
            }
            '.' if !rest[1..].starts_with(numeric) => match word(&rest[1..]) {
                0 => (Token::Dot, 1),
                length => (
                    Token::Field {
                        name: rest[1..=length].to_owned(),
                        apart,
                    },
                    length + 1,
                ),
            },
            '"' => self.quoted(rest)?,
            '`' => match rest[1..].find('`') {
                Some(end) => (Token::Literal(rest[1..=end].into()), end + 2),
                None => return self.fail("unterminated raw quoted string"),
            },
            c if c.is_ascii_digit() || c == '-' || c == '+' || c == '.' => self.number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let length = word(rest);
                let token = match &rest[..length] {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    other => Token::Word(other.to_owned()),
                };
                (token, length)
            }
            c => return self.fail(&format!("unexpected {c:?} in command")),
        })
    }

    fn number(&self, rest: &str) -> Result<(Token, usize), String> {
        let length = rest
            .char_indices()
            .find(|(i, c)| {
                !(c.is_ascii_alphanumeric() || *c == '.' || *i == 0 && (*c == '-' || *c == '+'))
            })
            .map_or(rest.len(), |(i, _)| i);
        let text = &rest[..length];
        if let Ok(n) = text.parse::<i64>() {
            return Ok((Token::Literal(n.into()), length));
        }
        match text.parse::<f64>() {
            Ok(f) => Ok((Token::Literal(Value::Float(f)), length)),
            Err(_) => self.fail(&format!("bad number syntax: {text:?}")),
        }
    }

    fn quoted(&self, rest: &str) -> Result<(Token, usize), String> {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return Ok((Token::Literal(text.into()), at + 1)),
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, c)) => text.push(c),
                    None => break,
                },
                c => text.push(c),
            }
        }
        self.fail("unterminated quoted string")
    }
}
