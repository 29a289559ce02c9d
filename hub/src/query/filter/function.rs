//! Conditions that are functions of ours to the engine: of some columns, true or false for each row, never NULL.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Decides a condition.
pub(super) trait Decide: PartialEq + Send + Sync + 'static {
    /// What the engine calls it.
    const NAME: &'static str;

    /// Whether it holds for each of some rows, of which the arguments are given.
    fn decide(&self, arguments: &[ArrayRef], rows: usize) -> Result<BooleanBuffer>;
}

/// The condition as it is `written`, of these arguments.
pub(super) fn condition<D: Decide>(written: String, decides: D, arguments: Vec<Expr>) -> Expr {
    let signature = match arguments.len() {
        0 => Signature::nullary(Volatility::Immutable),
        count => Signature::any(count, Volatility::Immutable),
    };
    let function = Function {
        written,
        decides,
        signature,
    };
    ScalarUDF::new_from_impl(function).call(arguments)
}

struct Function<D> {
    written: String,
    decides: D,
    signature: Signature,
}

impl<D: Decide> ScalarUDFImpl for Function<D> {
    fn name(&self) -> &str {
        D::NAME
    }

    fn schema_name(&self, _: &[Expr]) -> Result<String> {
        Ok(format!("{}({})", D::NAME, self.written))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arguments = args.args.into_iter();
        let arguments: Vec<ArrayRef> = arguments
            .map(|argument| argument.into_array(rows))
            .collect::<Result<_>>()?;
        let decided = self.decides.decide(&arguments, rows)?;
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(decided, None))))
    }
}

impl<D> fmt::Debug for Function<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl<D: PartialEq> PartialEq for Function<D> {
    fn eq(&self, other: &Self) -> bool {
        (&self.written, &self.decides) == (&other.written, &other.decides)
    }
}

impl<D: PartialEq> Eq for Function<D> {}

impl<D> Hash for Function<D> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}
