select lease_epoch from job where id = $1
