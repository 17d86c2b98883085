-- +goose Up
-- The account's own limits when the first part of a message was sent: its other
-- parts are cut by the same.
alter table outbox add column limits text not null default '';

-- +goose Down
alter table outbox drop column limits;
