-- +goose Up
-- Secrets that callbacks were signed with before, each for a day: a rotation that is
-- repeated must not take the secret away that receivers still know.
create table callback_former_secrets (
    key_id uuid not null,
    secret bytea not null,
    until  timestamptz not null
);
create index on callback_former_secrets (key_id);
insert into callback_former_secrets (key_id, secret, until) select key_id, former, former_until from callback_secrets where former is not null and former_until > now();
-- callback_secrets.former stays for processes of before, while they are replaced.

-- +goose Down
drop table callback_former_secrets;
