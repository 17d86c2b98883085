-- +goose Up
-- The message that is forwarded: where the platform has forwards of its own, it
-- is told to forward that one instead of being sent a copy.
alter table outbox add column forward_of uuid;
-- Who polls an account, see edge/lease.go.
alter table accounts
    add column poll_lease text not null default '',
    add column poll_lease_until timestamptz not null default '-infinity';

-- +goose Down
alter table outbox drop column forward_of;
alter table accounts drop column poll_lease, drop column poll_lease_until;
