//! Lists of what is refused: one line each with object, reason and hint, for errors and for
//! `docs/supported.md`.

macro_rules! refusals {
    (
        $(#[$list_doc:meta])* $list:ident
        $( $(#[$doc:meta])* $name:ident: $object:literal, $reason:literal, $hint:literal; )*
    ) => {
        $(#[$list_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $list {
            $( $(#[$doc])* $name, )*
        }

        impl $list {
            /// All that is refused.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// What users call it.
            #[must_use]
            pub const fn object(self) -> &'static str {
                match self { $( Self::$name => $object, )* }
            }

            /// Why it is refused.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $( Self::$name => $reason, )* }
            }

            /// What the user can do.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $( Self::$name => $hint, )* }
            }
        }
    };
}

pub(crate) use refusals;
