//! The `/networks` routes.

use super::router::Router;
use crate::backend::Backend;

pub(super) fn routes<B: Backend>(_router: &mut Router<B>) {}
