//! Figures: all of them kept, medians shown.

use serde::Serialize;
use std::fmt::Write;

/// One contestant's figures for one kind of work.
#[derive(Serialize)]
pub struct Row {
    pub work: String,
    pub who: String,
    pub unit: &'static str,
    /// In the order they were taken.
    pub figures: Vec<f64>,
    pub median: f64,
    /// Peak resident memory of the process, in MiB; the largest of all runs.
    pub peak_mib: Option<f64>,
    /// As `peak_mib`, of the process at the other end, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving_peak_mib: Option<f64>,
}

impl Row {
    /// Adds the peak resident memory of the serving end, in bytes.
    pub fn served_by(&mut self, peak: u64) {
        self.serving_peak_mib = Some(mib(peak));
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Everything of one run.
#[derive(Default, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds one contestant's figures.
    pub fn add(&mut self, work: &str, who: &str, unit: &'static str, figures: Vec<f64>, peak: Option<u64>) -> &mut Row {
        let median = median(&figures);
        eprintln!("{work}: {who}: {median:.1} {unit} of {figures:.2?}");
        let (work, who, peak_mib) = (work.into(), who.into(), peak.map(mib));
        let at = self.rows.len();
        self.rows.push(Row { work, who, unit, figures, median, peak_mib, serving_peak_mib: None });
        &mut self.rows[at]
    }

    /// A Markdown table; ratios are cidery's median over the other's.
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| work | who | median | min – max | cidery ÷ this | peak memory |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let ours = self.rows.iter().find(|other| other.work == row.work && other.who == "cidery");
            let ratio = match ours {
                Some(ours) if row.who != "cidery" && row.median > 0.0 => format!("{:.2}", ours.median / row.median),
                _ => String::new(),
            };
            let min = row.figures.iter().copied().fold(f64::INFINITY, f64::min);
            let max = row.figures.iter().copied().fold(0.0, f64::max);
            // Writing to a String cannot fail.
            let mut peak = row.peak_mib.map(|mib| format!("{mib:.0} MiB")).unwrap_or_default();
            if let Some(serving) = row.serving_peak_mib {
                let _ = write!(peak, " (serving: {serving:.0} MiB)");
            }
            let _ = writeln!(
                out,
                "| {} | {} | {} {} | {} – {} | {ratio} | {peak} |",
                row.work,
                row.who,
                shown(row.median),
                row.unit,
                shown(min),
                shown(max)
            );
        }
        out
    }
}

/// With one decimal where it says something.
fn shown(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

/// The middle figure; of an even number, the mean of the two in the middle.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[1.0, 2.0]), median(&[])), (2.0, 1.5, 0.0));
        let mut report = Report::default();
        report.add("push", "cidery", "MB/s", vec![300.0], None);
        report.add("push", "other", "MB/s", vec![100.0], Some(5 << 20)).served_by(7 << 20);
        assert!(report.table().contains("| push | other | 100 MB/s | 100 – 100 | 3.00 | 5 MiB (serving: 7 MiB) |"));
    }
}
