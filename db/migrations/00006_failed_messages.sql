-- +goose Up
create index messages_failed on messages (id) where status in ('failed', 'expired') and direction = 'out';

-- +goose Down
drop index messages_failed;
