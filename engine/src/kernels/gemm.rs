//! Products of plain matrices, for training: `out = scale * a * b`, or added to what is there.
//! The sums run over the inner size in an order that depends on the sizes alone, so the number of
//! threads changes nothing.

use gemm::Parallelism;

/// A matrix in a slice, as it lies or transposed.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    /// Elements from one row, and from one column, to the next.
    strides: (usize, usize),
}

impl<'a> View<'a> {
    /// Rows of `cols` elements, one after the other.
    pub(crate) const fn new(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(values, rows, cols, cols)
    }

    /// Rows of `cols` elements that begin `stride` elements apart.
    pub(crate) const fn strided(
        values: &'a [f32],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Self {
        let view = Self { values, rows, cols, strides: (stride, 1) };
        assert!(view.extent() <= values.len(), "the matrix lies inside its slice");
        view
    }

    /// The transposed matrix.
    pub(crate) const fn t(self) -> Self {
        let (rows, cols) = (self.cols, self.rows);
        Self { values: self.values, rows, cols, strides: (self.strides.1, self.strides.0) }
    }

    const fn extent(&self) -> usize {
        extent(self.rows, self.cols, self.strides)
    }
}

/// Elements from the first to the last, both included.
const fn extent(rows: usize, cols: usize, strides: (usize, usize)) -> usize {
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * strides.0 + (cols - 1) * strides.1 + 1 }
}

/// Where a product goes: rows that begin `stride` elements apart.
pub(crate) struct Out<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
    /// Whether it is added to what is there.
    pub(crate) add: bool,
}

impl<'a> Out<'a> {
    /// Rows of `cols` elements that are overwritten.
    pub(crate) const fn new(values: &'a mut [f32], cols: usize) -> Self {
        Self { values, stride: cols, add: false }
    }

    /// Rows of `cols` elements that are added to.
    pub(crate) const fn adding(values: &'a mut [f32], cols: usize) -> Self {
        Self { values, stride: cols, add: true }
    }
}

/// `out = scale * a * b` on rayon's threads.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, scale: f32, mut out: Out<'_>) {
    product(a, b, scale, &mut out, Parallelism::Rayon(0));
}

/// The same on this thread alone, for many small products side by side.
pub(crate) fn multiply_alone(a: View<'_>, b: View<'_>, scale: f32, mut out: Out<'_>) {
    product(a, b, scale, &mut out, Parallelism::None);
}

fn product(a: View<'_>, b: View<'_>, scale: f32, out: &mut Out<'_>, parallelism: Parallelism) {
    let (rows, inner, cols) = (a.rows, a.cols, b.cols);
    assert_eq!(inner, b.rows, "the inner sizes are equal");
    assert!(cols <= out.stride, "rows of the product do not overlap");
    assert!(extent(rows, cols, (out.stride, 1)) <= out.values.len(), "the product has room");
    let stride = |(row, col): (usize, usize)| (row.cast_signed(), col.cast_signed());
    let ((a_row, a_col), (b_row, b_col)) = (stride(a.strides), stride(b.strides));
    // SAFETY: each view was checked to lie inside its slice when it was made, `out` just now; `out` is
    // borrowed mutably, so it overlaps neither. f32 has kernels for every size and stride.
    unsafe {
        gemm::gemm(
            rows,
            cols,
            inner,
            out.values.as_mut_ptr(),
            1,
            out.stride.cast_signed(),
            out.add,
            a.values.as_ptr(),
            a_col,
            a_row,
            b.values.as_ptr(),
            b_col,
            b_row,
            if out.add { 1.0 } else { 0.0 },
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + salt * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn products_of_transposed_matrices_are_scaled_and_added() {
        let (rows, inner, cols) = (7, 33, 19);
        let (a, b) = (numbers(inner * rows, 1), numbers(cols * inner, 2));
        let mut out = numbers(rows * cols, 3);
        let before = out.clone();
        let views = (View::new(&a, inner, rows).t(), View::new(&b, cols, inner).t());
        multiply(views.0, views.1, 0.5, Out::adding(&mut out, cols));
        for row in 0..rows {
            for col in 0..cols {
                let sum: f32 = (0..inner).map(|i| a[i * rows + row] * b[col * inner + i]).sum();
                let expected = before[row * cols + col] + 0.5 * sum;
                assert!((out[row * cols + col] - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (rows, inner, cols) = (211, 577, 193);
        let (a, b) = (numbers(rows * inner, 4), numbers(cols * inner, 5));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; rows * cols];
            let views = (View::new(&a, rows, inner), View::new(&b, cols, inner).t());
            pool.install(|| multiply(views.0, views.1, 1.0, Out::new(&mut out, cols)));
            out.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        let alone = on(1);
        assert_eq!(on(2), alone);
        assert_eq!(on(5), alone);
    }
}
