-- +goose Up
-- Some platforms' reports name a message by the id that the platform gave it and
-- nothing else: the chat of those ids.
create table message_ids (
    account_id          uuid not null,
    platform_message_id text not null,
    chat_id             uuid not null,
    primary key (account_id, platform_message_id)
);
-- A parked report has the chat or, until that is known, the account.
alter table parked_receipts add column account_id uuid, alter column chat_id drop not null;
create index on parked_receipts (account_id, platform_message_id) where chat_id is null;
-- Up to when the platform was asked what became of our messages, see edge/reports.go.
alter table accounts add column reports_asked_at timestamptz not null default now();

-- +goose Down
alter table accounts drop column reports_asked_at;
delete from parked_receipts where chat_id is null;
alter table parked_receipts drop column account_id, alter column chat_id set not null;
drop table message_ids;
