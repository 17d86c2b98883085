-- +goose Up
-- A chat whose account has no room in its rate waits here, without a job, until the
-- pacer books it a slot: first those with the most urgent message, then the oldest.
alter table outbox_chats
    add column parked_account  uuid,
    add column parked_priority smallint,
    add column parked_id       bigint,     -- outbox.id of its first message
    add column parked_until    timestamptz; -- when that message expires
create index outbox_chats_parked on outbox_chats (parked_account, parked_priority, parked_id) where parked_account is not null;
create index outbox_chats_parked_until on outbox_chats (parked_until) where parked_account is not null;
-- Of sends that leave later than booked; see db/limiter.go.
alter table limits rename column sent to late;
update limits set late = '-infinity';

-- +goose Down
alter table limits rename column late to sent;
drop index outbox_chats_parked_until, outbox_chats_parked;
alter table outbox_chats drop column parked_account, drop column parked_priority, drop column parked_id, drop column parked_until;
