-- +goose Up
-- Of the sends that were made; tat is of those that were booked. See db/outbox.go.
alter table limits add column sent timestamptz not null default '-infinity';

-- +goose Down
alter table limits drop column sent;
