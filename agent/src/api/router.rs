//! From a method and a path to the function that answers.
//!
//! Owns the table of routes, with the place where each is answered. Invariant: a path that is in no route, and a
//! method that its route does not have, are Docker's `page not found`. Knows
//! nothing of what the handlers do.
//!
//! Patterns: `/containers/{id}/json` takes one segment, `/images/{name...}/json`
//! one or more (image names contain slashes). Of several matching routes the
//! one with more literal segments wins, so order does not matter.

use super::call::Call;
use super::pass_on::Place;
use super::reply::Reply;
use crate::error::Result;
use hyper::Method;
use std::pin::Pin;
use std::sync::Arc;

/// Segments of a path that are looked at; no route is near it, and image names
/// have at most a handful.
const SEGMENTS_MAX: usize = 64;

type Answer = Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
pub(super) type Handler<B> = Arc<dyn Fn(Call<B>) -> Answer + Send + Sync>;
/// Names and values of a pattern's parameters.
pub(super) type Params = Vec<(&'static str, String)>;

pub(super) struct Router<B> {
    routes: Vec<Route<B>>,
    /// Of the routes that are added now.
    place: Place,
}

struct Route<B> {
    method: Method,
    parts: Vec<Part>,
    place: Place,
    handler: Handler<B>,
}

/// Who answers a request.
pub(super) struct Found<B> {
    pub(super) handler: Handler<B>,
    pub(super) params: Params,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(&'static str),
    One(&'static str),
    Rest(&'static str),
}

impl<B> Router<B> {
    pub(super) fn new() -> Self {
        Self {
            routes: Vec::new(),
            place: Place::Here,
        }
    }

    /// Adds routes that are answered at `place`; outside of this it is `Here`.
    pub(super) fn at(&mut self, place: Place, add: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.place, place);
        add(self);
        self.place = before;
    }

    pub(super) fn get<F, A>(&mut self, pattern: &'static str, handler: F)
    where
        F: Fn(Call<B>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.add(Method::GET, pattern, handler);
    }

    pub(super) fn post<F, A>(&mut self, pattern: &'static str, handler: F)
    where
        F: Fn(Call<B>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.add(Method::POST, pattern, handler);
    }

    pub(super) fn delete<F, A>(&mut self, pattern: &'static str, handler: F)
    where
        F: Fn(Call<B>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply>> + Send + 'static,
    {
        self.add(Method::DELETE, pattern, handler);
    }

    pub(super) fn add<F, A>(&mut self, method: Method, pattern: &'static str, handler: F)
    where
        F: Fn(Call<B>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Reply>> + Send + 'static,
    {
        let handler: Handler<B> = Arc::new(move |call| Box::pin(handler(call)));
        self.routes.push(Route {
            method,
            parts: parts(pattern),
            place: self.place,
            handler,
        });
    }

    /// `path` without the version, still percent-encoded.
    pub(super) fn find(&self, method: &Method, path: &str) -> Option<Found<B>> {
        let segments: Vec<String> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .take(SEGMENTS_MAX)
            .map(super::query::decode_path)
            .collect();
        self.routes
            .iter()
            .filter(|route| route.method == *method)
            .filter_map(|route| matches(&route.parts, &segments).map(|params| (route, params)))
            .max_by_key(|(route, _)| {
                route
                    .parts
                    .iter()
                    .filter(|part| matches!(part, Part::Literal(_)))
                    .count()
            })
            .map(|(route, params)| Found {
                handler: route.handler.clone(),
                params,
                place: route.place,
            })
    }
}

fn parts(pattern: &'static str) -> Vec<Part> {
    let part = |segment: &'static str| match segment
        .strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'))
    {
        Some(inner) => match inner.strip_suffix("...") {
            Some(name) => Part::Rest(name),
            None => Part::One(inner),
        },
        None => Part::Literal(segment),
    };
    pattern
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(part)
        .collect()
}

fn matches(parts: &[Part], segments: &[String]) -> Option<Params> {
    let Some((first, parts_left)) = parts.split_first() else {
        return segments.is_empty().then(Params::new);
    };
    let (segment, segments_left) = segments.split_first()?;
    match *first {
        Part::Literal(literal) => {
            if literal != segment {
                return None;
            }
            matches(parts_left, segments_left)
        }
        Part::One(name) => {
            let mut params = matches(parts_left, segments_left)?;
            params.push((name, segment.clone()));
            Some(params)
        }
        // A `Rest` is followed by literals only, so its length is known.
        Part::Rest(name) => {
            let length = segments
                .len()
                .checked_sub(parts_left.len())
                .filter(|n| *n > 0)?;
            let (taken, left) = segments.split_at_checked(length)?;
            let mut params = matches(parts_left, left)?;
            params.push((name, taken.join("/")));
            Some(params)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &'static str, path: &str) -> Option<Params> {
        let segments: Vec<String> = path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(crate::api::query::decode_path)
            .collect();
        matches(&parts(pattern), &segments)
    }

    #[test]
    fn one_segment() {
        assert_eq!(
            found("/containers/{id}/json", "/containers/a%2Fb/json"),
            Some(vec![("id", "a/b".into())])
        );
        assert_eq!(found("/containers/{id}/json", "/containers/a/b/json"), None);
        assert_eq!(found("/containers/json", "/containers/json"), Some(vec![]));
        assert_eq!(found("/containers/json", "/containers"), None);
    }

    #[test]
    fn image_names_have_slashes() {
        assert_eq!(
            found(
                "/images/{name...}/json",
                "/images/localhost:5000/a/b:1/json"
            ),
            Some(vec![("name", "localhost:5000/a/b:1".into())])
        );
        assert_eq!(found("/images/{name...}/json", "/images/json"), None);
        assert_eq!(
            found("/images/{name...}", "/images/a/b"),
            Some(vec![("name", "a/b".into())])
        );
        assert_eq!(found("/images/{name...}", "/images"), None);
    }
}
