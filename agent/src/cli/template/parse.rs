//! Tokens into nodes.

use super::functions;
use super::lex::{Placed, Token};
use super::{Kind, Node, Pipe, Term};

/// Parentheses and blocks deeper than this are refused: they come from a
/// command line, and each level takes stack.
const DEPTH_MAX: usize = 100;

pub(super) struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    line: usize,
    depth: usize,
}

/// What ended a block.
#[derive(PartialEq)]
enum Ending {
    End,
    Else,
    /// `{{else if …}}`, `{{else with …}}`: the word after else comes next.
    ElseChained,
    Eof,
}

impl Parser {
    pub(super) fn new(tokens: Vec<Placed>) -> Self {
        Self {
            tokens,
            at: 0,
            line: 1,
            depth: 0,
        }
    }

    pub(super) fn template(mut self) -> Result<Vec<Node>, String> {
        let (nodes, ending) = self.block()?;
        match ending {
            Ending::Eof => Ok(nodes),
            Ending::End => self.fail("unexpected {{end}}"),
            _ => self.fail("unexpected {{else}}"),
        }
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("template: :{}: {what}", self.line))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|p| &p.token)
    }

    fn next(&mut self) -> Option<Placed> {
        let placed = self.tokens.get(self.at).cloned();
        if let Some(placed) = &placed {
            self.line = placed.line;
            self.at += 1;
        }
        placed
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.fail("max expression depth exceeded")
        } else {
            Ok(())
        }
    }

    fn block(&mut self) -> Result<(Vec<Node>, Ending), String> {
        self.deeper()?;
        let mut nodes = Vec::new();
        loop {
            let Some(placed) = self.next() else {
                self.depth -= 1;
                return Ok((nodes, Ending::Eof));
            };
            if let Token::Text(text) = placed.token {
                nodes.push(Node::Text(text));
                continue;
            }
            let keyword = match self.peek() {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            let ending = match keyword.as_str() {
                "end" => Ending::End,
                "else" => Ending::Else,
                _ => {
                    nodes.push(self.action(&keyword)?);
                    continue;
                }
            };
            self.next();
            self.depth -= 1;
            if ending == Ending::Else
                && matches!(self.peek(), Some(Token::Word(w)) if w == "if" || w == "with")
            {
                return Ok((nodes, Ending::ElseChained));
            }
            self.close()?;
            return Ok((nodes, ending));
        }
    }

    fn close(&mut self) -> Result<(), String> {
        match self.next().map(|p| p.token) {
            Some(Token::Close) => Ok(()),
            _ => self.fail("unexpected operand in command"),
        }
    }

    fn action(&mut self, keyword: &str) -> Result<Node, String> {
        match keyword {
            "if" | "with" | "range" => {
                self.next();
                self.control(keyword)
            }
            "break" | "continue" => {
                self.next();
                self.close()?;
                Ok(if keyword == "break" {
                    Node::Break
                } else {
                    Node::Continue
                })
            }
            "template" | "block" | "define" => self.fail(&format!("unexpected {{{{{keyword}}}}}")),
            _ => {
                let pipe = self.pipe("command")?;
                self.close()?;
                Ok(Node::Action(pipe))
            }
        }
    }

    fn control(&mut self, keyword: &str) -> Result<Node, String> {
        let pipe = self.pipe(keyword)?;
        self.close()?;
        let (body, ending) = self.block()?;
        let otherwise = match ending {
            Ending::End => Vec::new(),
            Ending::Eof => return self.fail("unexpected EOF"),
            Ending::Else => match self.block()? {
                (nodes, Ending::End) => nodes,
                (_, Ending::Eof) => return self.fail("unexpected EOF"),
                _ => return self.fail("expected end; found {{else}}"),
            },
            Ending::ElseChained => {
                let chained = match self.next().map(|p| p.token) {
                    Some(Token::Word(word)) => word,
                    _ => return self.fail("unexpected {{else}}"),
                };
                self.deeper()?;
                vec![self.control(&chained)?]
            }
        };
        Ok(match keyword {
            "if" => Node::If {
                test: pipe,
                then: body,
                otherwise,
            },
            "with" => Node::With {
                value: pipe,
                then: body,
                otherwise,
            },
            _ => Node::Range {
                over: pipe,
                body,
                otherwise,
            },
        })
    }

    /// A pipeline up to what closes it, which is left in place.
    fn pipe(&mut self, context: &str) -> Result<Pipe, String> {
        self.deeper()?;
        let (variables, assigns) = self.declaration();
        let mut commands = Vec::new();
        let mut command = Vec::new();
        loop {
            match self.peek() {
                None => return self.fail("unclosed action"),
                Some(Token::Close | Token::ParenClose) => {
                    if command.is_empty() {
                        return self.fail(&format!("missing value for {context}"));
                    }
                    commands.push(command);
                    self.depth -= 1;
                    return Ok(Pipe {
                        variables,
                        assigns,
                        commands,
                    });
                }
                Some(Token::Pipe) => {
                    self.next();
                    if command.is_empty() {
                        return self.fail(&format!("missing value for {context}"));
                    }
                    commands.push(std::mem::take(&mut command));
                }
                Some(_) => command.push(self.term()?),
            }
        }
    }

    /// `$x :=`, `$k, $v :=` or `$x =`, if that is what comes.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let token = |ahead: usize| self.tokens.get(self.at + ahead).map(|p| &p.token);
        let (names, used) = match (token(0), token(1), token(2)) {
            (Some(Token::Variable(k)), Some(Token::Comma), Some(Token::Variable(v))) => {
                (vec![k.clone(), v.clone()], 3)
            }
            (Some(Token::Variable(v)), _, _) => (vec![v.clone()], 1),
            _ => return (Vec::new(), false),
        };
        let assigns = match token(used) {
            Some(Token::Declare) => false,
            Some(Token::Assign) => true,
            _ => return (Vec::new(), false),
        };
        self.at += used + 1;
        (names, assigns)
    }

    fn term(&mut self) -> Result<Term, String> {
        let Some(Placed {
            token,
            line,
            column,
        }) = self.next()
        else {
            return self.fail("unclosed action");
        };
        let mut fields = Vec::new();
        let kind = match token {
            Token::Dot => Kind::Dot,
            Token::Field { name, .. } => {
                fields.push(name);
                Kind::Dot
            }
            Token::Variable(name) => Kind::Variable(name),
            Token::Literal(value) => Kind::Literal(value),
            Token::Word(name) if functions::is_known(&name) => Kind::Function(name),
            Token::Word(name) => return self.fail(&format!("function {name:?} not defined")),
            Token::ParenOpen => {
                let pipe = self.pipe("parenthesized pipeline")?;
                match self.next().map(|p| p.token) {
                    Some(Token::ParenClose) => Kind::Paren(Box::new(pipe)),
                    _ => return self.fail("unclosed left paren"),
                }
            }
            _ => return self.fail("unexpected token in command"),
        };
        while let Some(Token::Field { name, apart: false }) = self.peek() {
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Term {
            kind,
            fields,
            line,
            column,
        })
    }
}
