//! Edges of nAck: the call of a [`Port`] that waits for them.

use std::time::Duration;

use parscan_core::ioctl::parallel::{
    IOCTL_PARSCAN_WAIT_EDGE,
    port_programs::{Edge, EdgesHeader, FOREVER, MOST_EDGES},
};

use crate::{Error, Port, port::Request};

/// What came of a wait for edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortEdges {
    /// The edges, in their order; none, if the time was over.
    pub edges: Vec<Edge>,
    /// Edges since the last wait that the driver could not keep.
    pub lost: u32,
    /// Counts of the performance counter in a second (`QueryPerformanceFrequency`).
    pub frequency: u64,
}

impl PortEdges {
    /// When an edge was, in nanoseconds of the performance counter
    /// (`QueryPerformanceCounter`).
    #[must_use]
    pub fn nanoseconds(&self, edge: &Edge) -> u128 {
        let frequency = u128::from(self.frequency.max(1));
        u128::from(edge.stamp) * 1_000_000_000 / frequency
    }
}

impl Port {
    /// Waits until nAck rises, or did since the last wait: the edges until then, with the
    /// performance counter in the interrupt, and the status register (`IOCTL_PARSCAN_WAIT_EDGE`).
    /// The first wait begins the watch, which lasts as long as the port is open; the driver keeps the
    /// last 64 edges. Without a limit it waits for ever; a limit of 0 takes what there is.
    ///
    /// # Errors
    /// [`Condition::Unsupported`](crate::Condition::Unsupported): the port has no interrupt, or its
    /// key does not allow it. [`Condition::Busy`](crate::Condition::Busy): another client has the
    /// port. A wait in another thread is under way.
    pub fn wait_edges(&self, limit: Option<Duration>) -> Result<PortEdges, Error> {
        const NAME: &str = "IOCTL_PARSCAN_WAIT_EDGE";
        let milliseconds = limit.map_or(FOREVER, |limit| {
            let milliseconds = limit.as_nanos().div_ceil(1_000_000);
            u32::try_from(milliseconds).map_or(FOREVER - 1, |it| it.min(FOREVER - 1))
        });
        let answer = self.bytes(
            &Request {
                name: NAME,
                code: IOCTL_PARSCAN_WAIT_EDGE,
                input: &milliseconds.to_le_bytes(),
            },
            EdgesHeader::SIZE + MOST_EDGES * Edge::SIZE,
        )?;
        let short = || Error::ShortAnswer {
            request: NAME,
            bytes: answer.len(),
        };
        let header = EdgesHeader::parse(&answer).ok_or_else(short)?;
        let records = answer.get(EdgesHeader::SIZE..).unwrap_or_default();
        let edges: Vec<Edge> = records
            .as_chunks()
            .0
            .iter()
            .filter_map(Edge::parse)
            .collect();
        if edges.len() != header.edges as usize {
            return Err(short());
        }
        Ok(PortEdges {
            edges,
            lost: header.lost,
            frequency: header.frequency,
        })
    }
}
