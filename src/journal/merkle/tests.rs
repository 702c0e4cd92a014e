use super::*;

/// The leaves and roots that certificate transparency's own implementations are tested with.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn leaves(count: usize) -> Vec<Digest> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

/// The definition in RFC 6962, section 2.1, word for word.
fn tree_hash(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = split(leaves);
            node_hash(&tree_hash(left), &tree_hash(right))
        }
    }
}

#[test]
fn known_roots_are_reproduced() {
    let mut frontier = Frontier::default();
    assert_eq!(frontier.root().to_string(), ROOTS[0]);
    for (leaf, expected) in LEAVES.iter().zip(&ROOTS[1..]) {
        frontier.push(leaf_hash(&hex::decode(leaf).unwrap()));
        assert_eq!(frontier.root().to_string(), *expected);
    }
}

#[test]
fn known_proofs_are_reproduced() {
    let leaves: Vec<_> = LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect();
    let path = inclusion_proof(&leaves, 5).unwrap();
    let expected = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(path.iter().map(Digest::to_string).collect::<Vec<_>>(), expected);
}

#[test]
fn frontier_agrees_with_the_definition_and_survives_storage() {
    let all = leaves(130);
    let mut frontier = Frontier::default();
    for (count, leaf) in all.iter().enumerate() {
        assert_eq!(frontier.root(), tree_hash(&all[..count]));
        let stored = Frontier::from_parts(frontier.size(), frontier.peaks().to_vec()).unwrap();
        assert_eq!(stored, frontier);
        frontier.push(*leaf);
    }
    assert_eq!(Frontier::from_parts(3, leaves(1)), None);
}

#[test]
fn inclusion_is_proved_for_what_is_in_and_nothing_else() {
    for size in 1..34 {
        let all = leaves(size);
        let root = root(&all);
        for index in 0..size {
            let path = inclusion_proof(&all, index).unwrap();
            let (i, n) = (index as u64, size as u64);
            assert!(verify_inclusion(&all[index], i, n, &path, &root));
            assert!(!verify_inclusion(&leaf_hash(b"other"), i, n, &path, &root));
            assert!(!verify_inclusion(&all[index], n, n, &path, &root));
            assert!(size == 1 || !verify_inclusion(&all[index], (i + 1) % n, n, &path, &root));
            assert!(!verify_inclusion(&all[index], i, n, &[path.clone(), vec![root]].concat(), &root));
            assert!(path.is_empty() || !verify_inclusion(&all[index], i, n, &path[1..], &root));
        }
        assert_eq!(inclusion_proof(&all, size), None);
    }
}

#[test]
fn consistency_is_proved_for_prefixes_and_nothing_else() {
    for size in 0..34 {
        let all = leaves(size);
        let new = Tree { size: size as u64, root: root(&all) };
        for old_size in 0..=size {
            let old = Tree { size: old_size as u64, root: root(&all[..old_size]) };
            let path = consistency_proof(&all, old_size).unwrap();
            assert!(verify_consistency(&old, &new, &path), "{old_size} in {size}");
            let forged = Tree { root: leaf_hash(b"forged"), ..old };
            assert!(!verify_consistency(&forged, &new, &path));
            assert!(
                !verify_consistency(&old, &Tree { root: leaf_hash(b"forged"), ..new }, &path)
                    || old_size == 0
            );
            assert!(!verify_consistency(&old, &new, &[path.clone(), vec![new.root]].concat()));
        }
        assert_eq!(consistency_proof(&all, size + 1), None);
    }
}
