-- +goose Up
-- What reports need to know of chats: when conversations began and ended, and who
-- served them from when to when. Only added to; dropped with the messages of its
-- time (db/partitions.go).
create table chat_log (
    at          timestamptz not null default clock_timestamp(),
    chat_id     uuid not null,
    account_id  uuid not null,
    seq         bigint not null, -- of the chat's last message
    what        text not null, -- begun (by the customer), accepted, started, transferred, queued, closed
    operator_id uuid,          -- who serves the chat from now on
    former_id   uuid,          -- who served it until now
    since       timestamptz    -- when former_id began to
);
create index on chat_log (at);
create index on chat_log (chat_id, seq);
-- When operator_id began to serve the chat; null while nobody does, and of chats
-- that were accepted before this was noted.
alter table chats add column served_since timestamptz;

-- +goose Down
alter table chats drop column served_since;
drop table chat_log;
