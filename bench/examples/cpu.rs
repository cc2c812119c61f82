fn main() {
    let a: Vec<String> = std::env::args().collect();
    let b = bench::CpuBench { firmware: a[1].clone().into(), llama_cpp: a.get(3).map(Into::into), threads: 2, rounds: a[2].parse().unwrap() };
    println!("{}", b.run().unwrap());
}
