//! `IOCTL_PARSCAN_WAIT_EDGE`: edges of nAck, stamped by the port's interrupt.

use super::{VERSION, Writer, u32_at, u64_at, versioned};
use crate::ioctl::Status;

/// The most edges that are kept for a program: of more, the last ones.
pub const MOST_EDGES: usize = 64;
/// A time-out of `IOCTL_PARSCAN_WAIT_EDGE` that is none: the request waits for ever.
pub const FOREVER: u32 = u32::MAX;

/// A checked `IOCTL_PARSCAN_WAIT_EDGE`: how long it waits, in milliseconds, or [`FOREVER`]. With 0
/// it takes what there is.
///
/// # Errors
/// `STATUS_INVALID_PARAMETER`: the input is no ULONG, or there is no room for an edge.
pub(in super::super) fn parse(input: &[u8], output_length: usize) -> Result<u32, Status> {
    let time = <[u8; 4]>::try_from(input).map_err(|_| Status::INVALID_PARAMETER)?;
    if output_length < EdgesHeader::SIZE + Edge::SIZE {
        return Err(Status::INVALID_PARAMETER);
    }
    Ok(u32::from_le_bytes(time))
}

/// `PARSCAN_EDGES`, in front of the edges, which come in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgesHeader {
    /// Edges that follow. None: the time was over.
    pub edges: u32,
    /// Edges since the last answer that are not told, for [`MOST_EDGES`] came after them.
    pub lost: u32,
    /// Edges that are there and did not fit.
    pub left: u32,
    /// Counts of the performance counter in a second.
    pub frequency: u64,
}

impl EdgesHeader {
    /// Bytes of `PARSCAN_EDGES`.
    pub const SIZE: usize = 24;

    /// The structure: version, edges, lost, left, frequency.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut writer = Writer::<{ Self::SIZE }>::new();
        writer
            .u32(VERSION)
            .u32(self.edges)
            .u32(self.lost)
            .u32(self.left)
            .u64(self.frequency);
        writer.bytes
    }

    /// Reads the structure. `None`: it is short, or of another version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::SIZE] = versioned(bytes)?;
        Some(Self {
            edges: u32_at(&bytes, 4)?,
            lost: u32_at(&bytes, 8)?,
            left: u32_at(&bytes, 12)?,
            frequency: u64_at(&bytes, 16)?,
        })
    }
}

/// `PARSCAN_EDGE`: a rising edge of nAck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// The performance counter in the interrupt service routine.
    pub stamp: u64,
    /// The status register there.
    pub status: u8,
}

impl Edge {
    /// Bytes of `PARSCAN_EDGE`.
    pub const SIZE: usize = 16;

    /// The structure: stamp, status, and three bytes and a ULONG of 0.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut writer = Writer::<{ Self::SIZE }>::new();
        writer.u64(self.stamp).u32(self.status.into());
        writer.bytes
    }

    /// Reads the structure.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        Some(Self {
            stamp: u64_at(bytes, 0)?,
            status: u32_at(bytes, 8)?.to_le_bytes()[0],
        })
    }
}

/// The last edges, which no request was told of yet. The oldest go first, and are lost where there
/// are more than [`MOST_EDGES`].
#[derive(Clone, Copy, Debug)]
pub struct EdgeRing {
    edges: [Edge; MOST_EDGES],
    /// The place of the oldest.
    first: usize,
    length: usize,
    lost: u32,
}

impl EdgeRing {
    /// No edges.
    pub const EMPTY: Self = Self {
        edges: [Edge {
            stamp: 0,
            status: 0,
        }; MOST_EDGES],
        first: 0,
        length: 0,
        lost: 0,
    };

    /// Notes an edge. A few instructions: an interrupt service routine does it.
    pub fn push(&mut self, edge: Edge) {
        let place = (self.first + self.length) % MOST_EDGES;
        if let Some(place) = self.edges.get_mut(place) {
            *place = edge;
        }
        if self.length == MOST_EDGES {
            self.first = (self.first + 1) % MOST_EDGES;
            self.lost = self.lost.saturating_add(1);
        } else {
            self.length += 1;
        }
    }

    /// Forgets them all.
    pub const fn clear(&mut self) {
        self.length = 0;
        self.lost = 0;
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Moves the oldest edges into an answer, as many as it has room for, with their header. Comes
    /// back with the bytes of it; 0, if there is no room for the header.
    pub fn answer(&mut self, room: &mut [u8], frequency: u64) -> usize {
        let Some((header, rest)) = room.split_first_chunk_mut::<{ EdgesHeader::SIZE }>() else {
            return 0;
        };
        let mut edges = 0;
        for place in rest.as_chunks_mut().0.iter_mut().take(self.length) {
            let at = (self.first + edges) % MOST_EDGES;
            *place = self.edges.get(at).copied().unwrap_or_default().to_bytes();
            edges += 1;
        }
        self.first = (self.first + edges) % MOST_EDGES;
        self.length -= edges;
        // No more than MOST_EDGES.
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        *header = EdgesHeader {
            edges: number(edges),
            lost: core::mem::take(&mut self.lost),
            left: number(self.length),
            frequency,
        }
        .to_bytes();
        EdgesHeader::SIZE + edges * Edge::SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(number: u64) -> Edge {
        Edge {
            stamp: number << 33,
            status: number.to_le_bytes()[0],
        }
    }

    /// What an answer with room for `most` edges says: edges, lost, left.
    fn told(ring: &mut EdgeRing, most: usize) -> (Vec<Edge>, u32, u32) {
        let mut room = vec![0xAA; EdgesHeader::SIZE + most * Edge::SIZE + 5];
        let length = ring.answer(&mut room, 10_000_000);
        let header = EdgesHeader::parse(&room).unwrap();
        assert_eq!(header.frequency, 10_000_000);
        let edges: Vec<Edge> = room[EdgesHeader::SIZE..length]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| Edge::parse(bytes).unwrap())
            .collect();
        assert_eq!(edges.len(), header.edges as usize);
        assert!(room[length..].iter().all(|byte| *byte == 0xAA));
        (edges, header.lost, header.left)
    }

    #[test]
    fn edges_come_in_their_order_and_once() {
        let mut ring = EdgeRing::EMPTY;
        assert_eq!(told(&mut ring, 64), (vec![], 0, 0));
        for number in 0..5 {
            ring.push(edge(number));
        }
        assert_eq!(told(&mut ring, 2), (vec![edge(0), edge(1)], 0, 3));
        ring.push(edge(5));
        let rest = (2..6).map(edge).collect();
        assert_eq!(told(&mut ring, 64), (rest, 0, 0));
        assert!(ring.is_empty());
    }

    #[test]
    fn the_last_64_are_kept_and_the_others_counted() {
        let mut ring = EdgeRing::EMPTY;
        for number in 0..150 {
            ring.push(edge(number));
        }
        let kept = (86..150).map(edge).collect();
        assert_eq!(told(&mut ring, 100), (kept, 86, 0));
        ring.push(edge(200));
        assert_eq!(told(&mut ring, 1), (vec![edge(200)], 0, 0));
        for number in 0..65 {
            ring.push(edge(number));
        }
        ring.clear();
        assert_eq!(told(&mut ring, 1), (vec![], 0, 0));
    }

    #[test]
    fn the_input_is_a_ulong_and_there_is_room_for_an_edge() {
        assert_eq!(parse(&[0xE8, 3, 0, 0], 40), Ok(1000));
        assert_eq!(parse(&[0xFF; 4], 1048), Ok(FOREVER));
        for (input, room) in [(&[][..], 40), (&[0; 3], 40), (&[0; 5], 40), (&[0; 4], 39)] {
            assert_eq!(parse(input, room), Err(Status::INVALID_PARAMETER));
        }
        assert_eq!(EdgeRing::EMPTY.clone().answer(&mut [0; 23], 1), 0);
    }

    #[test]
    fn other_versions_are_not_read() {
        let mut bytes = EdgesHeader {
            edges: 1,
            lost: 2,
            left: 3,
            frequency: 4 << 40,
        }
        .to_bytes();
        assert_eq!(EdgesHeader::parse(&bytes).unwrap().frequency, 4 << 40);
        assert_eq!(EdgesHeader::parse(&bytes[..23]), None);
        bytes[0] = 2;
        assert_eq!(EdgesHeader::parse(&bytes), None);
    }
}
