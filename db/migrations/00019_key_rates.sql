-- +goose Up
-- When the next request of a key with a rate would come at its rate (GCRA), for all
-- processes. What is lost by a crash of the server is that somebody waited.
create unlogged table key_rates (
    key_id uuid primary key,
    tat    timestamptz not null,
    got    int not null -- how many places the last one who asked was given
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- +goose Down
drop table key_rates;
