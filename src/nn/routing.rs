//! Which experts a token goes through. Refuses to compute them.

/// The `count` largest of a token's probabilities in ascending order of their index; of equal ones the first.
pub(crate) fn largest<T: PartialOrd>(probabilities: &[T], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    let descending =
        |a: &usize, b: &usize| probabilities[*b].partial_cmp(&probabilities[*a]).unwrap_or(std::cmp::Ordering::Equal);
    order.sort_by(descending);
    order.truncate(count);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_and_of_equal_ones_the_first() {
        assert_eq!(largest(&[0.1, 0.4, 0.2, 0.3], 2), [1, 3]);
        assert_eq!(largest(&[0.25; 4], 2), [0, 1]);
        assert_eq!(largest(&[0.5, f64::NAN], 5), [0, 1]);
    }
}
