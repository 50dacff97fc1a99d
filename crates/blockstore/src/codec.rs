//! The little-endian fields that packs, journal and index are made of.

use cidery_core::Cid;

/// Appends fields to a buffer.
pub(crate) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    /// Seven bits a byte, the lowest first; all bytes but the last have their highest bit set.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }
    /// A length (u32), then the bytes. Callers keep what they write below the journal's record limit.
    fn put_bytes(&mut self, value: &[u8]);
    fn put_cid(&mut self, cid: &Cid) {
        self.put_bytes(&cid.to_bytes());
    }
    /// A count (u32), then the CIDs.
    fn put_cids(&mut self, cids: &[Cid]) {
        self.put_u32(cids.len() as u32);
        cids.iter().for_each(|cid| self.put_cid(cid));
    }
    /// A count (u32), then ascending numbers as differences, each a varint.
    fn put_ascending(&mut self, numbers: &[u64]) {
        self.put_u32(numbers.len() as u32);
        let mut last = 0;
        for number in numbers {
            self.put_varint(number - last);
            last = *number;
        }
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend(value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend(value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend(value.to_le_bytes());
    }
    fn put_bytes(&mut self, value: &[u8]) {
        self.put_u32(value.len() as u32);
        self.extend(value);
    }
}

/// Reads fields off a slice; `None` when it is too short or a value is not valid.
pub(crate) struct Take<'a>(pub(crate) &'a [u8]);

impl<'a> Take<'a> {
    pub(crate) fn raw(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.raw(N)?.try_into().ok()
    }
    pub(crate) fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            (bits << shift >> shift == bits).then_some(())?;
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.raw(len as usize)
    }
    /// Text that parses as a `T`.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self) -> Option<T> {
        std::str::from_utf8(self.bytes()?).ok()?.parse().ok()
    }
    pub(crate) fn cid(&mut self) -> Option<Cid> {
        Cid::try_from(self.bytes()?).ok()
    }
    /// As [`Put::put_cids`]. Pushed one by one: a count that lies reserves nothing.
    pub(crate) fn cids(&mut self) -> Option<Vec<Cid>> {
        let mut cids = Vec::new();
        for _ in 0..self.u32()? {
            cids.push(self.cid()?);
        }
        Some(cids)
    }
    /// As [`Put::put_ascending`].
    pub(crate) fn ascending(&mut self) -> Option<Vec<u64>> {
        let (mut numbers, mut last) = (Vec::new(), 0_u64);
        for _ in 0..self.u32()? {
            last = last.checked_add(self.varint()?)?;
            numbers.push(last);
        }
        Some(numbers)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
