//! Values by size: numbers of all kinds in one order, for whoever looks for the largest.
//!
//! The order of keys, which tells kinds apart, is that of [`super::Value`] itself.

use std::cmp::Ordering;

use super::{Decimal, Value};

impl Value {
    /// Compares by size: 2 is less than 2.5 whatever kind of number each is; what is no number by its own order.
    /// A total order: numbers by their nearest float, then exact ones by their exact size and before a float.
    pub fn by_size(&self, other: &Value) -> Ordering {
        match (Number::of(self), Number::of(other)) {
            // An integer and a decimal may be one number; two values never are.
            (Some(a), Some(b)) => a.cmp(&b).then_with(|| self.cmp(other)),
            _ => self.cmp(other),
        }
    }
}

struct Number {
    near: f64,
    exact: Option<Decimal>,
}

impl Number {
    fn of(value: &Value) -> Option<Number> {
        let exact = match value {
            Value::Int(number) => Decimal::parse(&number.to_string())?,
            Value::Decimal(number) => number.clone(),
            Value::Float(number) => return Some(Number { near: number.get(), exact: None }),
            _ => return None,
        };
        let sign = if exact.is_negative() { "-" } else { "" };
        let digits = if exact.digits().is_empty() { "0" } else { exact.digits() };
        let near = format!("{sign}{digits}e{}", exact.exponent()).parse().ok()?;
        Some(Number { near, exact: Some(exact) })
    }

    fn cmp(&self, other: &Number) -> Ordering {
        self.near.total_cmp(&other.near).then_with(|| match (&self.exact, &other.exact) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::Float;

    fn number() -> impl Strategy<Value = Value> {
        let decimal = |n: i64, e: i32| Value::Decimal(Decimal::parse(&format!("{n}e{e}")).expect("a decimal"));
        prop_oneof![
            (-30i64..30).prop_map(|n| Value::Int(n.into())),
            any::<i128>().prop_map(Value::Int),
            (-300i64..300, -2i32..2).prop_map(move |(n, e)| decimal(n, e)),
            (-30i32..30).prop_map(|n| Value::Float(Float::new(f64::from(n) / 2.0))),
            any::<f64>().prop_map(|n| Value::Float(Float::new(n))),
            Just(Value::Text("5".into())),
        ]
    }

    proptest! {
        #[test]
        fn sizes_are_in_one_order(a in number(), b in number(), c in number()) {
            prop_assert_eq!(a.by_size(&b), b.by_size(&a).reverse());
            prop_assert_eq!(a.by_size(&b).is_eq(), a == b);
            if a.by_size(&b).is_lt() && b.by_size(&c).is_lt() {
                prop_assert!(a.by_size(&c).is_lt());
            }
        }
    }

    #[test]
    fn numbers_of_different_kinds_compare_by_size() {
        let decimal = |text| Value::Decimal(Decimal::parse(text).expect("a decimal"));
        let rising = [
            Value::Int(-3),
            decimal("-2.5"),
            Value::Float(Float::new(-0.5)),
            Value::Int(0),
            decimal("0.1"),
            Value::Int(2),
            decimal("2.5"),
            Value::Float(Float::new(2.75)),
            Value::Int(i128::MAX),
            Value::Float(Float::new(f64::NAN)),
        ];
        assert!(rising.windows(2).all(|pair| pair[0].by_size(&pair[1]).is_lt()));
    }
}
