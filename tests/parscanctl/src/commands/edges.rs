//! `wait-edge`

use std::time::Duration;

use parscan_client::{
    Error, Failure, Port, PortEdges, ioctl::parallel::port_programs::Edge as PortEdge,
};
use serde::Serialize;

use crate::{Host, complaint::Complaint, render::report};

/// `ERROR_TIMEOUT`
const TIME_OUT: u32 = 1460;

#[derive(Serialize)]
struct Edge {
    port: String,
    /// The performance counter
    stamp: u64,
    /// Its counts in a second
    frequency: u64,
    /// Since the edge before, if there was one
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ns: Option<u64>,
    status: u8,
    /// Edges before this one that the driver could not keep
    lost: u32,
}

report!(Edge);

impl Edge {
    fn lines(&self) -> String {
        let lost = match self.lost {
            0 => String::new(),
            1 => format!("{}: 1 edge lost\n", self.port),
            lost => format!("{}: {lost} edges lost\n", self.port),
        };
        let since = self.since_ns.map_or_else(String::new, |since| {
            format!(", {}.{:03} us after the last", since / 1000, since % 1000)
        });
        let (port, stamp, status) = (&self.port, self.stamp, self.status);
        format!("{lost}{port}: edge at {stamp}{since}, status {status:#04x}\n")
    }
}

/// `wait-edge`: shows each edge as it comes.
pub(super) fn wait(
    host: &mut Host,
    port: &Port,
    count: Option<u64>,
    timeout: Option<Duration>,
    json: bool,
) -> Result<(), Complaint> {
    let mut left = count.unwrap_or(u64::MAX);
    let mut before: Option<(PortEdge, PortEdges)> = None;
    while left > 0 && !host.cancel.is_cancelled() {
        let found = match port.wait_edges(timeout) {
            // Ctrl-C is the way to end it.
            Err(_) if host.cancel.is_cancelled() => break,
            found => found?,
        };
        if found.edges.is_empty() {
            return Err(Error::Failed {
                request: "IOCTL_PARSCAN_WAIT_EDGE",
                failure: Failure {
                    win32: TIME_OUT,
                    status: None,
                    transferred: 0,
                },
            }
            .into());
        }
        let mut lost = found.lost;
        for edge in &found.edges {
            if left == 0 {
                break;
            }
            left -= 1;
            let now = found.nanoseconds(edge);
            let since = before
                .as_ref()
                .map(|(before, of)| now.saturating_sub(of.nanoseconds(before)));
            let shown = Edge {
                port: port.name().to_owned(),
                stamp: edge.stamp,
                frequency: found.frequency,
                since_ns: since.map(|since| u64::try_from(since).unwrap_or(u64::MAX)),
                status: edge.status,
                lost: std::mem::take(&mut lost),
            };
            host.print(json, &shown)?;
            before = Some((
                *edge,
                PortEdges {
                    edges: Vec::new(),
                    ..found
                },
            ));
        }
    }
    Ok(())
}
