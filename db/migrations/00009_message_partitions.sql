-- +goose Up
-- Messages lie in partitions of a month each (UTC), by their ids, which begin with
-- the time; db/partitions.go makes and drops them. What there was before is the
-- first one. A number, or a sender's own id, is unique in its chat because the
-- chat's row is locked while it is given.
alter table messages rename to messages_first;
alter table messages_first rename constraint messages_pkey to messages_first_pkey;
alter index messages_seq rename to messages_first_seq;
alter index messages_platform rename to messages_first_platform;
alter index messages_client rename to messages_first_client;
alter index messages_customer rename to messages_first_customer;
alter index messages_failed rename to messages_first_failed;
create table messages (like messages_first including defaults, constraint messages_pkey primary key (id)) partition by range (id);
-- +goose StatementBegin
do $$ begin
    execute format('alter table messages attach partition messages_first for values from (minvalue) to (%L)',
        (lpad(to_hex((extract(epoch from date_trunc('month', now(), 'UTC') + interval '1 month') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid);
end $$;
-- +goose StatementEnd
create index messages_platform on messages (chat_id, platform_message_id) where platform_message_id is not null;
create index messages_customer on messages (created_at, id) where direction = 'in';
create index messages_failed on messages (id) where status in ('failed', 'expired') and direction = 'out';
-- For ids that have no partition.
create table messages_other partition of messages default;
create unique index messages_other_seq on messages_other (chat_id, seq);
create unique index messages_other_client on messages_other (chat_id, client_id) where client_id is not null;
alter table message_ids add column created_at timestamptz not null default now();
create index on message_ids (created_at);

-- +goose Down
alter table message_ids drop column created_at;
create table messages_whole (like messages including defaults, primary key (id)) with (fillfactor = 95);
insert into messages_whole select * from messages;
drop table messages;
alter table messages_whole rename to messages;
alter table messages rename constraint messages_whole_pkey to messages_pkey;
create unique index messages_seq on messages (chat_id, seq);
create index messages_platform on messages (chat_id, platform_message_id) where platform_message_id is not null;
create unique index messages_client on messages (chat_id, client_id) where client_id is not null;
create index messages_customer on messages (created_at, id) where direction = 'in';
create index messages_failed on messages (id) where status in ('failed', 'expired') and direction = 'out';
