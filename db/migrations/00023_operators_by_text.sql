-- +goose Up
-- Senders of messages are text, since not all of them are operators; the picture of one
-- who is was found by reading all operators.
create index operators_text on operators ((id::text));

-- +goose Down
drop index operators_text;
