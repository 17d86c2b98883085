-- +goose Up
-- The message that is forwarded: where the platform has forwards of its own, it
-- is told to forward that one instead of being sent a copy.
alter table outbox add column forward_of uuid;

-- +goose Down
alter table outbox drop column forward_of;
