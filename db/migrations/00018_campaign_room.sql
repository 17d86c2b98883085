-- +goose Up
-- Rows that change once or twice soon after they are made, none of them by an
-- indexed column: with room on their page they stay there.
alter table campaign_sends set (fillfactor = 45);
alter table campaign_recipients set (fillfactor = 50);
alter table outbox_chats set (fillfactor = 50);

-- +goose Down
alter table outbox_chats set (fillfactor = 75);
alter table campaign_recipients set (fillfactor = 80);
alter table campaign_sends set (fillfactor = 85);
