select exists (select 1 from generation_file where sha256 = ?) as "in_use!: bool"
