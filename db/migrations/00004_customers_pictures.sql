-- +goose Up
-- A customer's picture is a file of ours. avatar_ref is the platform's name of the
-- picture that avatar_file was made of; profile_at is when the platform's word on
-- name and picture was last taken. The column avatar held that word; former
-- versions, which may still run, read and write it, and nothing else does.
alter table customers
    add column avatar_ref text not null default '',
    add column avatar_file uuid,
    add column profile_at timestamptz not null default '-infinity';

-- +goose Down
alter table customers drop column avatar_ref, drop column avatar_file, drop column profile_at;
