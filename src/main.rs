//! The program. All of it is in the library beside it, where tests and benchmarks reach it too.

fn main() {
    agenticore::main()
}
