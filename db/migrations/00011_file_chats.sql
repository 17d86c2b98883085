-- +goose Up
-- The chats into which a file was sent: who may read one of them may read the
-- file. (A customer's file has its message, whose chat tells.)
create table file_chats (
    file_id uuid not null,
    chat_id uuid not null,
    primary key (file_id, chat_id)
);
insert into file_chats (file_id, chat_id)
    select distinct (f ->> 'id')::uuid, m.chat_id from messages m, jsonb_array_elements(m.body -> 'files') f
    where m.direction = 'out' and jsonb_typeof(m.body -> 'files') = 'array';
create index customers_avatar on customers (avatar_file) where avatar_file is not null;

-- +goose Down
drop index customers_avatar;
drop table file_chats;
