//! Plots of time over size.

use std::path::Path;

use plotters::prelude::{
    BLUE, ChartBuilder, Color, IntoDrawingArea, IntoLogRange, LineSeries, RED, RGBColor,
    SVGBackend, WHITE,
};

use crate::BenchError;
use crate::figures::{Figures, Row};

/// A line of a plot.
struct Line {
    label: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Draws one plot for each workload of several sizes; tells their names.
pub(crate) fn draw_all(rows: &[Row], dir: &Path) -> Result<Vec<&'static str>, BenchError> {
    let mut drawn = Vec::new();
    for rows in rows.chunk_by(|a, b| a.case.workload == b.case.workload) {
        if let [first, _, ..] = rows {
            let name = first.case.workload;
            draw(rows, name, &dir.join(format!("{name}.svg"))).map_err(BenchError::Plot)?;
            drawn.push(name);
        }
    }
    Ok(drawn)
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let own = |get: fn(&Figures) -> f64| {
        let point = |row: &Row| Some((row.case.size as f64, get(row.dormouse.as_ref().ok()?)));
        rows.iter().filter_map(point).collect()
    };
    let criu = |get: fn(&Figures) -> f64| {
        let figures = |row: &Row| row.criu.as_ref()?.as_ref().ok().copied();
        let point = |row: &Row| Some((row.case.size as f64, get(&figures(row)?)));
        rows.iter().filter_map(point).collect()
    };
    let pale = |colour: RGBColor| RGBColor(colour.0.max(150), colour.1.max(150), colour.2.max(150));
    vec![
        Line { label: "dormouse dump", colour: BLUE, points: own(|it| it.dump_ms) },
        Line { label: "dormouse restore", colour: pale(BLUE), points: own(|it| it.restore_ms) },
        Line { label: "CRIU dump", colour: RED, points: criu(|it| it.dump_ms) },
        Line { label: "CRIU restore", colour: pale(RED), points: criu(|it| it.restore_ms) },
    ]
}

fn draw(rows: &[Row], name: &str, path: &Path) -> Result<(), String> {
    let lines: Vec<Line> = lines(rows).into_iter().filter(|line| !line.points.is_empty()).collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let span = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all()
            .map(of)
            .fold((f64::MAX, 0f64), |(low, high), value| (low.min(value), high.max(value)));
        low / 1.5..high * 1.5
    };
    if all().next().is_none() {
        return Ok(());
    }
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let area = SVGBackend::new(path, (720, 420)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| told(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{name}: milliseconds over size"), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(span(|point| point.0).log_scale(), span(|point| point.1).log_scale())
        .map_err(|error| told(&error))?;
    chart.configure_mesh().draw().map_err(|error| told(&error))?;
    for Line { label, colour, points } in lines {
        let series = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
        chart.draw_series(series).map_err(|error| told(&error))?.label(label).legend(
            move |(x, y)| plotters::element::PathElement::new([(x, y), (x + 18, y)], colour),
        );
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(|error| told(&error))?;
    area.present().map_err(|error| told(&error))
}
