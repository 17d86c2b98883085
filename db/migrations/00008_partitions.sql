-- +goose Up
-- Raw updates lie in partitions of a week each, from Monday on (UTC), which are
-- made and dropped by db/partitions.go. What there was before is the first one.
alter table updates rename to updates_first;
alter table updates_first drop constraint updates_pkey;
alter index updates_dedup rename to updates_first_dedup;
create table updates (like updates_first including defaults) partition by range (received_at);
create index updates_lane on updates (lane, id);
-- +goose StatementBegin
do $$ begin
    execute format('alter table updates attach partition updates_first for values from (minvalue) to (%L)',
        date_trunc('week', now(), 'UTC') + interval '7 days');
end $$;
-- +goose StatementEnd
-- For times that have no partition, should nobody have made one.
create table updates_other partition of updates default;
create unique index updates_other_dedup on updates_other (account_id, dedup_key);

-- +goose Down
create table updates_whole (like updates including defaults, primary key (lane, id));
insert into updates_whole select * from updates;
drop table updates;
alter table updates_whole rename to updates;
alter table updates rename constraint updates_whole_pkey to updates_pkey;
create unique index updates_dedup on updates (account_id, dedup_key);
