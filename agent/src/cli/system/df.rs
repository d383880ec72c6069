//! `system df`.

use crate::cli::exit::{self, Outcome};
use crate::cli::format::{Listing, Row};
use crate::cli::json::Value;
use crate::cli::{Invocation, container, image, units, volume};

const SUMMARY: Listing = Listing {
    row_type: "formatter.diskUsageImagesContext",
    columns: "{{.Type}}\\t{{.TotalCount}}\\t{{.Active}}\\t{{.Size}}\\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
    headers: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

pub(super) fn run(inv: &Invocation) -> Outcome {
    let usage = inv.client.get("/system/df")?;
    let format = inv.flags.str("format");
    if inv.flags.bool("verbose") {
        if format == "json" || format.starts_with("{{") {
            let template = crate::cli::format::document_template(format)?;
            let scope = crate::cli::template::Scope::document();
            return exit::print_line(&template.execute(&usage, scope)?);
        }
        return verbose(&usage);
    }
    let rows = [
        images(&usage),
        containers(&usage),
        volumes(&usage),
        cache(&usage),
    ];
    SUMMARY.print(&SUMMARY.choose(format, false), &rows)
}

fn summary(kind: &str, total: usize, active: usize, size: f64, reclaimable: String) -> Value {
    Row::new()
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", units::human_size(size))
        .with("Reclaimable", reclaimable)
        .done()
}

/// A share of a size, when there is any size.
fn share(part: f64, whole: f64) -> String {
    let text = units::human_size(part);
    // Whole per cent, cut off.
    if whole > 0.0 {
        format!("{text} ({}%)", (part * 100.0 / whole) as i64)
    } else {
        text
    }
}

fn images(usage: &Value) -> Value {
    let images = usage.list("Images");
    let size = usage.float("LayersSize");
    let used: f64 = images
        .iter()
        .filter(|i| i.int("Containers") != 0)
        .filter(|i| i.int("Size") != -1 && i.int("SharedSize") != -1)
        .map(|i| i.float("Size") - i.float("SharedSize"))
        .sum();
    let active = images.iter().filter(|i| i.int("Containers") > 0).count();
    summary(
        "Images",
        images.len(),
        active,
        size,
        share(size - used, size),
    )
}

fn containers(usage: &Value) -> Value {
    let containers = usage.list("Containers");
    let is_active = |c: &&Value| matches!(c.text("State"), "running" | "paused" | "restarting");
    let size: f64 = containers.iter().map(|c| c.float("SizeRw")).sum();
    let idle: f64 = containers
        .iter()
        .filter(|c| !is_active(c))
        .map(|c| c.float("SizeRw"))
        .sum();
    summary(
        "Containers",
        containers.len(),
        containers.iter().filter(is_active).count(),
        size,
        share(idle, size),
    )
}

fn volumes(usage: &Value) -> Value {
    let volumes = usage.list("Volumes");
    let sized = |v: &&Value| v.int("UsageData.Size") != -1;
    let size: f64 = volumes
        .iter()
        .filter(sized)
        .map(|v| v.float("UsageData.Size"))
        .sum();
    let idle: f64 = volumes
        .iter()
        .filter(sized)
        .filter(|v| v.int("UsageData.RefCount") == 0)
        .map(|v| v.float("UsageData.Size"))
        .sum();
    let active = volumes
        .iter()
        .filter(|v| v.int("UsageData.RefCount") > 0)
        .count();
    summary(
        "Local Volumes",
        volumes.len(),
        active,
        size,
        share(idle, size),
    )
}

fn cache(usage: &Value) -> Value {
    let records = usage.list("BuildCache");
    let size: f64 = records
        .iter()
        .filter(|r| !r.bool("Shared"))
        .map(|r| r.float("Size"))
        .sum();
    let active = records.iter().filter(|r| r.bool("InUse")).count();
    summary(
        "Build Cache",
        records.len(),
        active,
        size,
        units::human_size(size),
    )
}

const IMAGES: &str = "table {{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}\\t{{.SharedSize}}\\t{{.UniqueSize}}\\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.LocalVolumes}}\\t{{.Size}}\\t{{.RunningFor}}\\t{{.Status}}\\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\\t{{.Links}}\\t{{.Size}}";

fn verbose(usage: &Value) -> Outcome {
    // One row an image here, under its first name.
    let rows: Vec<Value> = usage
        .list("Images")
        .iter()
        .filter_map(|i| image::rows(i, true, false, false).into_iter().next())
        .collect();
    exit::print("Images space usage:\n\n")?;
    exit::print(&image::LISTING.text(IMAGES, &rows)?)?;
    let rows: Vec<Value> = usage
        .list("Containers")
        .iter()
        .map(|c| {
            let mut row = container::row(c, true);
            row.set("Size", units::short_size(c.float("SizeRw")));
            row
        })
        .collect();
    exit::print("\nContainers space usage:\n\n")?;
    exit::print(&container::LISTING.text(CONTAINERS, &rows)?)?;
    let rows: Vec<Value> = usage.list("Volumes").iter().map(volume::row).collect();
    exit::print("\nLocal Volumes space usage:\n\n")?;
    exit::print(&volume::LISTING.text(VOLUMES, &rows)?)?;
    let size: f64 = usage
        .list("BuildCache")
        .iter()
        .map(|r| r.float("Size"))
        .sum();
    exit::print(&format!(
        "\nBuild cache usage: {}\n\nCACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n",
        units::human_size(size)
    ))
}
