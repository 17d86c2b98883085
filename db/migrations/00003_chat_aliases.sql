-- +goose Up
-- Other keys by which a private chat can be begun, where the platform's key of
-- the chat is not the customer's id. An alias goes before a chat that has it for
-- its key.
create table chat_aliases (
    account_id uuid not null,
    alias      text not null,
    chat_id    uuid not null,
    primary key (account_id, alias)
);

-- +goose Down
drop table chat_aliases;
