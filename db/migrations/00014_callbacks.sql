-- +goose Up
-- Readers of the events' log that must miss none: up to where each has read. See
-- db/follow.go.
create table followers (
    name text primary key,
    pos  bigint not null
) with (fillfactor = 20);
insert into followers (name, pos) select 'callbacks', coalesce(max(id), 0) from events;

-- Messages whose statuses a script wants to be told, at its own address. Made in
-- the message's transaction. key_id is the API key whose secret signs; the nil id
-- stands for the installation's own secret (campaigns that people made).
create table message_callbacks (
    message_id uuid primary key,
    key_id     uuid not null default '00000000-0000-0000-0000-000000000000',
    url        text not null,
    told       smallint not null default 1, -- message_rank of the last status that has a delivery
    n          smallint not null default 0  -- how many deliveries there are
) with (fillfactor = 85);

-- A status of a message on its way to a script. Of a message's pending deliveries
-- one has a due_at, the first; the others wait for it.
create table callback_deliveries (
    id          uuid primary key, -- the webhook-id
    message_id  uuid not null,
    n           smallint not null, -- from 1, in the order of the statuses
    key_id      uuid not null,
    host        text not null, -- host:port; each has its own share of the senders
    url         text not null,
    status      text not null,
    payload     text not null, -- what is posted, the same at every attempt
    state       text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    due_at      timestamptz,
    attempts    int not null default 0,
    code        int not null default 0, -- HTTP status of the last answer
    error       text not null default '',
    created_at  timestamptz not null default now(),
    finished_at timestamptz,
    unique (message_id, n)
) with (fillfactor = 80);
create index callback_deliveries_due on callback_deliveries (host, due_at) where state = 'pending' and due_at is not null;
create index callback_deliveries_finished on callback_deliveries (finished_at) where state <> 'pending';
create index callback_deliveries_failed on callback_deliveries (id) where state = 'failed';

-- Addresses that said 410 Gone: they are told nothing more.
create table callback_stops (
    key_id uuid not null,
    url    text not null,
    at     timestamptz not null default now(),
    primary key (key_id, url)
);

-- What callbacks are signed with, encrypted. The former secret signs as well until
-- former_until.
create table callback_secrets (
    key_id       uuid primary key,
    secret       bytea not null,
    former       bytea,
    former_until timestamptz,
    created_at   timestamptz not null default now()
);

-- +goose Down
drop table callback_secrets, callback_stops, callback_deliveries, message_callbacks, followers;
