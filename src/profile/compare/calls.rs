//! Sums over a tree of calls. Each takes time that is linear in the number of nodes, however deep the tree is.
//!
//! A node is its caller (0 for none; node `n` is `nodes[n - 1]`) and its function. A caller stands before what it calls.

/// For each node, whether its function is on none of its callers. The sum below these nodes is the function's total: a stack counts once,
/// however often the function is in it.
pub(super) fn outermost(nodes: &[(u32, u32)], functions: usize) -> Vec<bool> {
    // What each node calls, as a list: the first of it, and the next one of the same caller.
    let (mut first, mut next) = (vec![0_u32; nodes.len() + 1], vec![0_u32; nodes.len() + 1]);
    for (node, &(caller, _)) in (1_u32..).zip(nodes) {
        next[node as usize] = std::mem::replace(&mut first[caller as usize], node);
    }
    let mut is_outermost = vec![false; nodes.len()];
    // How often each function is on the way from the root to the node that is looked at.
    let mut on_path = vec![0_u32; functions];
    let mut node = first[0];
    while node != 0 {
        let at = node as usize - 1;
        let times = &mut on_path[nodes[at].1 as usize];
        is_outermost[at] = *times == 0;
        *times += 1;
        if first[node as usize] != 0 {
            node = first[node as usize];
            continue;
        }
        // Back up to the nearest caller that calls something else.
        loop {
            let (caller, function) = nodes[node as usize - 1];
            on_path[function as usize] -= 1;
            let sibling = next[node as usize];
            node = if sibling == 0 { caller } else { sibling };
            if sibling != 0 || node == 0 {
                break;
            }
        }
    }
    is_outermost
}

/// Adds what was counted in each node to all of its callers.
pub(super) fn add_to_callers<T: Copy>(nodes: &[(u32, u32)], sums: &mut [T], add: impl Fn(&mut T, T)) {
    for at in (0..nodes.len()).rev() {
        let of_node = sums[at];
        if let Some(caller) = (nodes[at].0 as usize).checked_sub(1) {
            add(&mut sums[caller], of_node);
        }
    }
}

/// For each node, the root that it was called from; an index of `nodes`, as its own place is.
pub(super) fn roots(nodes: &[(u32, u32)]) -> Vec<u32> {
    let mut roots: Vec<u32> = Vec::with_capacity(nodes.len());
    for (at, &(caller, _)) in (0..).zip(nodes) {
        roots.push((caller as usize).checked_sub(1).map_or(at, |caller| roots[caller]));
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nodes from one up to its root, it first, as places of `nodes`.
    fn path(nodes: &[(u32, u32)], node: usize) -> Vec<usize> {
        std::iter::successors(Some(node), |&at| (nodes[at].0 as usize).checked_sub(1)).collect()
    }

    #[test]
    fn sums_are_those_of_walks_from_every_node_to_its_root() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let (number, functions) = (random.u32(0..60), random.u32(1..8));
            let nodes: Vec<(u32, u32)> = (0..number).map(|at| (random.u32(0..=at), random.u32(0..functions))).collect();
            let is_outermost = outermost(&nodes, functions as usize);
            let roots = roots(&nodes);
            let mut sums = vec![1_usize; nodes.len()];
            add_to_callers(&nodes, &mut sums, |sum, more| *sum += more);
            for node in 0..nodes.len() {
                let up = path(&nodes, node);
                let repeats = up[1..].iter().any(|&caller| nodes[caller].1 == nodes[node].1);
                assert_eq!(is_outermost[node], !repeats, "{node} of {nodes:?}");
                assert_eq!(roots[node] as usize, *up.last().unwrap(), "{node} of {nodes:?}");
                let below = (0..nodes.len()).filter(|&other| path(&nodes, other).contains(&node)).count();
                assert_eq!(sums[node], below, "{node} of {nodes:?}");
            }
        }
    }
}
