/** The types of elements, as the names of exports have them; `bool` is a byte, 0 or 1. */
export type Float = 'f32' | 'f64';
export type Numeric = Float | 'i32';
export type Element = Numeric | 'bool';
