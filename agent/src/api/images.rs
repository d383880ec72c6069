//! The `/images` routes.

use super::router::Router;
use crate::backend::Backend;
use crate::error::{Error, Result};
use serde_json::{Value, json};

pub(super) fn routes<B: Backend>(_router: &mut Router<B>) {}

/// The images' members of `system df`.
pub(super) async fn disk_usage<B: Backend>(node: &B) -> Result<Value> {
    let store = node.images().clone();
    let usage = smol::unblock(move || store.disk_usage()).await;
    let usage = usage.map_err(|e| Error::internal(e.to_string()))?;
    Ok(json!({"LayersSize": usage.layers_size, "Images": []}))
}
