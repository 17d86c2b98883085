-- +goose Up
-- A row of the outbox changes when it is claimed, by columns that are in no index:
-- with room on its page it stays there. Nothing asks by expires_at: a claim finds out
-- what has expired.
alter table outbox set (fillfactor = 50);
drop index outbox_expires_at_idx;

-- +goose Down
create index outbox_expires_at_idx on outbox (expires_at);
alter table outbox set (fillfactor = 80);
