//! The Merkle tree of RFC 6962 (section 2) and RFC 9162 (section 2.1): hashes, a frontier that grows in O(log n), and
//! proofs with their verification. Pure functions over digests; used by the journal, by audit and by verifiers.

use crate::domain::id::Digest;

/// SHA-256(0x00 || bytes).
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    let mut input = Vec::with_capacity(bytes.len() + 1);
    input.push(0x00);
    input.extend_from_slice(bytes);
    Digest::of(&input)
}

/// SHA-256(0x01 || left || right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut input = [0x01; 65];
    let (l, r) = input.split_at_mut(33);
    l.iter_mut().skip(1).zip(left.0).for_each(|(to, from)| *to = from);
    r.copy_from_slice(&right.0);
    Digest::of(&input)
}

/// The roots of the complete subtrees of a tree, largest first: all that is needed to add leaves and to know the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// A frontier stored earlier; `None` when there is not one peak for each set bit of the size.
    pub fn from_parts(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        let fits = u32::try_from(peaks.len()).is_ok_and(|count| count == size.count_ones());
        fits.then_some(Self { size, peaks })
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The Merkle tree hash; of an empty tree it is SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let folded = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(|| Digest::of(b""))
    }
}

/// The Merkle tree hash over all leaves.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The path that proves leaf `index` to be in the tree over `leaves`; `None` when there is no such leaf.
pub fn inclusion_proof(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut part, mut index, mut path) = (leaves, index, Vec::new());
    while part.len() > 1 {
        let (left, right) = split(part);
        if index < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The proof that the tree over the first `old_size` leaves is a prefix of the tree over all; `None` when there are
/// fewer leaves. Empty when the sizes are equal or the old tree is empty.
pub fn consistency_proof(leaves: &[Digest], old_size: usize) -> Option<Vec<Digest>> {
    if old_size > leaves.len() {
        return None;
    }
    if old_size == 0 || old_size == leaves.len() {
        return Some(Vec::new());
    }
    let (mut part, mut old, mut path, mut whole) = (leaves, old_size, Vec::new(), true);
    while old < part.len() {
        let (left, right) = split(part);
        if old <= left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            old -= left.len();
            part = right;
            whole = false;
        }
    }
    // The verifier knows the old root, so it is left out when the old tree is one complete subtree on the left edge.
    if !whole {
        path.push(root(part));
    }
    path.reverse();
    Some(path)
}

/// True when `path` proves that `leaf` is number `index` (from 0) of the tree with `size` leaves and this root.
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut first, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            hash = node_hash(sibling, &hash);
            (first, last) = skip_right_edge(first, last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (first, last) = (first >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// A tree as two parties name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// How many leaves.
    pub size: u64,
    /// The tree hash.
    pub root: Digest,
}

/// True when `path` proves that `old` is a prefix of `new`.
pub fn verify_consistency(old: &Tree, new: &Tree, path: &[Digest]) -> bool {
    if old.size > new.size {
        return false;
    }
    if old.size == new.size || old.size == 0 {
        let empty_is_empty = old.size > 0 || old.root == Digest::of(b"");
        let equal_is_equal = old.size < new.size || old.root == new.root;
        return path.is_empty() && empty_is_empty && equal_is_equal;
    }
    let known = if old.size.is_power_of_two() { Some(&old.root) } else { None };
    let mut steps = known.into_iter().chain(path);
    let Some(seed) = steps.next() else { return false };
    let shift = (old.size - 1).trailing_ones();
    let (mut first, mut last) = ((old.size - 1) >> shift, (new.size - 1) >> shift);
    let (mut old_hash, mut new_hash) = (*seed, *seed);
    for step in steps {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            (first, last) = skip_right_edge(first, last);
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        (first, last) = (first >> 1, last >> 1);
    }
    last == 0 && old_hash == old.root && new_hash == new.root
}

/// On the right edge of the tree a node without a sibling is its own parent: go up to where it has one (RFC 9162,
/// 2.1.3.2 step 4.2).
fn skip_right_edge(first: u64, last: u64) -> (u64, u64) {
    if first & 1 == 1 || first == 0 {
        return (first, last);
    }
    let shift = first.trailing_zeros();
    (first >> shift, last >> shift)
}

/// At the largest power of two that is smaller than the number of leaves.
fn split(leaves: &[Digest]) -> (&[Digest], &[Digest]) {
    let at = leaves.len().next_power_of_two() / 2;
    leaves.split_at_checked(at).unwrap_or((leaves, &[]))
}

#[cfg(test)]
mod tests;
