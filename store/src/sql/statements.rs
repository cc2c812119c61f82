//! A statement is a name, its arguments, its answer and one file of SQL for each database.

/// A column of bytes.
pub(super) type Bytes = Vec<u8>;

/// Makes a trait of checked statements and implements it for each database's connection.
///
/// Answers: `Count` of changed rows; `Option<Row>` and `Vec<Row>` by the row's columns; `Value<T>`,
/// `OptionalValue<T>` and `Values<T>` of a lone column. Files: SQLite's, then Postgres's.
macro_rules! statements {
    ($(#[$about:meta])* $statements:ident {
        $(fn $name:ident($($argument:ident: $type:ty),*) -> $kind:ident $(<$of:ident>)?
            in $sqlite:tt, $postgres:tt;)*
    }) => {
        $(#[$about])*
        #[allow(clippy::too_many_arguments, reason = "an insert has as many as it has columns")]
        pub(crate) trait $statements {
            $(fn $name(&mut self, $($argument: $type),*)
                -> impl Future<Output = Result<answer!($kind $($of)?), $crate::StoreError>> + Send;)*
        }

        #[cfg(feature = "sqlite")]
        impl $statements for sqlx::SqliteConnection {
            $(async fn $name(&mut self, $($argument: $type),*)
                -> Result<answer!($kind $($of)?), $crate::StoreError> {
                let answer = ask!($kind $($of)?, self, $sqlite $(, $argument)*);
                <sqlx::Sqlite as $crate::sql::Dialect>::answered(stringify!($name), answer).await
            })*
        }

        #[cfg(feature = "postgres")]
        impl $statements for sqlx::PgConnection {
            $(async fn $name(&mut self, $($argument: $type),*)
                -> Result<answer!($kind $($of)?), $crate::StoreError> {
                let answer = ask!($kind $($of)?, self, $postgres $(, $argument)*);
                <sqlx::Postgres as $crate::sql::Dialect>::answered(stringify!($name), answer).await
            })*
        }
    };
}

macro_rules! answer {
    (Count) => { u64 };
    (Option $row:ident) => { Option<$row> };
    (Vec $row:ident) => { Vec<$row> };
    (Value $type:ident) => { $type };
    (OptionalValue $type:ident) => { Option<$type> };
    (Values $type:ident) => { Vec<$type> };
}

macro_rules! ask {
    (Count, $db:ident, $file:tt $(, $argument:ident)*) => { async {
        let done = sqlx::query_file!($file $(, $argument)*).execute(&mut *$db).await?;
        Ok::<u64, sqlx::Error>(done.rows_affected())
    } };
    (Option $row:ident, $db:ident, $file:tt $(, $argument:ident)*) => {
        sqlx::query_file_as!($row, $file $(, $argument)*).fetch_optional(&mut *$db)
    };
    (Vec $row:ident, $db:ident, $file:tt $(, $argument:ident)*) => {
        sqlx::query_file_as!($row, $file $(, $argument)*).fetch_all(&mut *$db)
    };
    (Value $type:ident, $db:ident, $file:tt $(, $argument:ident)*) => {
        sqlx::query_file_scalar!($file $(, $argument)*).fetch_one(&mut *$db)
    };
    (OptionalValue $type:ident, $db:ident, $file:tt $(, $argument:ident)*) => {
        sqlx::query_file_scalar!($file $(, $argument)*).fetch_optional(&mut *$db)
    };
    (Values $type:ident, $db:ident, $file:tt $(, $argument:ident)*) => {
        sqlx::query_file_scalar!($file $(, $argument)*).fetch_all(&mut *$db)
    };
}
