-- +goose Up
-- Foreign keys are left out of the tables on the message path on purpose: each
-- would cost a key-share lock on its parent per row, and rows are never deleted
-- there except by age.

create table accounts (
    id          uuid primary key,
    platform    text not null,
    name        text not null,
    state       text not null default 'active' check (state in ('active', 'paused', 'removed')),
    reason      text not null default '',
    settings    jsonb not null default '{}',
    secrets     bytea,
    poll_offset bigint not null default 0,
    poll_epoch  bigint not null default 0,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

-- A number per cached thing, raised whenever it changes; caches compare it.
create table versions (
    name    text primary key,
    version bigint not null default 0
);
insert into versions (name) values ('accounts');

-- +goose StatementBegin
create function bump_accounts_version() returns trigger language plpgsql as $$
begin
    update versions set version = version + 1 where name = 'accounts';
    return null;
end $$;
-- +goose StatementEnd
create trigger accounts_version after insert or delete or update of name, state, reason, settings, secrets on accounts
    for each statement execute function bump_accounts_version();

create table operators (
    id            uuid primary key,
    login         text not null unique,
    name          text not null,
    role          text not null check (role in ('operator', 'supervisor', 'admin')),
    avatar        text not null default '',
    password_hash text not null,
    skills        text[] not null default '{}',
    capacity      int not null default 0,
    presence      text not null default 'offline' check (presence in ('online', 'away', 'offline')),
    presence_at   timestamptz not null default now(),
    disabled      boolean not null default false,
    created_at    timestamptz not null default now()
);

create table sessions (
    token_hash  bytea primary key,
    operator_id uuid not null references operators (id) on delete cascade,
    created_at  timestamptz not null default now(),
    expires_at  timestamptz not null
);
create index on sessions (operator_id);
create index on sessions (expires_at);

create table login_failures (
    key      text primary key, -- login or address
    failures int not null,
    since    timestamptz not null,
    until    timestamptz not null
);

create table api_keys (
    id         uuid primary key,
    name       text not null,
    key_hash   bytea not null unique,
    created_at timestamptz not null default now(),
    used_at    timestamptz,
    revoked_at timestamptz
);

create table audit (
    id     bigint generated always as identity primary key,
    at     timestamptz not null default now(),
    actor  text not null,
    action text not null,
    target text not null default '',
    detail jsonb not null default '{}'
);

create table customers (
    id            uuid primary key,
    account_id    uuid not null,
    external_id   text not null,
    name          text not null default '',
    username      text not null default '',
    avatar        text not null default '',
    phone         text not null default '',
    language      text not null default '',
    country       text not null default '',
    reachable     boolean not null default true,
    unreachable_reason text not null default '',
    created_at    timestamptz not null default now(),
    unique (account_id, external_id)
) with (fillfactor = 85);

create table phone_book (
    phone       text not null, -- E.164
    customer_id uuid not null,
    account_id  uuid not null,
    platform    text not null,
    source      text not null, -- contact, address
    updated_at  timestamptz not null default now(),
    primary key (phone, customer_id)
);

create table chats (
    id                        uuid primary key,
    account_id                uuid not null,
    platform                  text not null,
    customer_id               uuid not null,
    external_id               text not null,
    state                     text not null default 'new' check (state in ('new', 'offered', 'open', 'closed')),
    operator_id               uuid,
    skill                     text not null default '',
    last_seq                  bigint not null default 0,
    read_seq                  bigint not null default 0,
    unread                    int not null default 0,
    last_customer_message_at  timestamptz,
    queued_at                 timestamptz,
    created_at                timestamptz not null default now(),
    unique (account_id, external_id)
) with (fillfactor = 75); -- room for in-page (HOT) updates of last_seq and unread
create index chats_queue on chats (queued_at, id) where state in ('new', 'offered');
create index chats_operator on chats (operator_id) where state in ('offered', 'open');
create index chats_closed on chats (operator_id, id) where state = 'closed';

-- One row per chat that ever sent: its outbox' mailbox flag and its pace.
create table outbox_chats (
    chat_id uuid primary key,
    busy    boolean not null default false, -- a deliver job exists
    tat     timestamptz not null default '-infinity'
) with (fillfactor = 75);

create table messages (
    id                  uuid primary key,
    chat_id             uuid not null,
    account_id          uuid not null,
    seq                 bigint not null,
    direction           text not null,
    kind                text not null,
    status              text not null,
    status_at           timestamptz not null,
    error               jsonb,
    body                jsonb not null, -- message.Content
    sender_kind         text not null,
    sender_id           text not null default '',
    sender_name         text not null default '',
    reply_to            uuid,
    platform_message_id text,
    client_id           text,
    platform_at         timestamptz,
    created_at          timestamptz not null,
    edited_at           timestamptz,
    deleted_at          timestamptz,
    lane                int,    -- with update_id: the raw update it came from
    update_id           bigint
) with (fillfactor = 95);
create unique index messages_seq on messages (chat_id, seq);
create index messages_platform on messages (chat_id, platform_message_id) where platform_message_id is not null;
create unique index messages_client on messages (chat_id, client_id) where client_id is not null;
create index messages_customer on messages (created_at, id) where direction = 'in';

-- message.Status.Rank in SQL: a status gives way only to one of a higher rank.
create function message_rank(status text) returns int language sql immutable parallel safe as $$
    select case status when 'queued' then 1 when 'sending' then 2 when 'sent' then 3 when 'failed' then 4 when 'expired' then 4
        when 'canceled' then 4 when 'delivered' then 5 when 'read' then 6 else 0 end
$$;

-- Platform ids of messages that took more than one call (or an album).
create table message_parts (
    chat_id             uuid not null,
    platform_message_id text not null,
    message_id          uuid not null,
    part                int not null,
    primary key (chat_id, platform_message_id)
);
create index on message_parts (message_id);

-- The timeline beyond what the message's own row says.
create table message_log (
    message_id uuid not null,
    at         timestamptz not null default clock_timestamp(),
    what       text not null, -- sending, sent, retry, delivered, read, failed, shown, ...
    detail     jsonb
);
create index on message_log (message_id);

create table outbox (
    id         bigint generated always as identity primary key,
    chat_id    uuid not null,
    account_id uuid not null,
    message_id uuid not null,
    op         text not null default 'send' check (op in ('send', 'edit', 'delete')),
    undo       jsonb, -- of an edit or deletion: what to restore when the platform refuses
    part       int not null default 0,
    attempt    int not null default 0,
    sending    boolean not null default false,
    owner      text not null default '', -- node that sends it
    priority   smallint not null default 0, -- 0 conversation, 1 api, 2 campaign
    reserved   boolean not null default false, -- the limiter's slot at not_before is ours
    not_before timestamptz not null default '-infinity',
    expires_at timestamptz not null,
    created_at timestamptz not null default now()
) with (fillfactor = 80);
create index on outbox (chat_id, id);
create index on outbox (expires_at);

-- Generic cell rate algorithm: the theoretical arrival time of the next send.
create table limits (
    key text primary key,
    tat timestamptz not null
) with (fillfactor = 50);

create table parked_receipts (
    chat_id             uuid not null,
    platform_message_id text not null,
    status              text not null,
    failure             jsonb,
    at                  timestamptz not null,
    parked_at           timestamptz not null default now()
);
create index on parked_receipts (chat_id, platform_message_id);
create index on parked_receipts (parked_at);

-- Raw inbound updates. The key is (lane, id): ids rise in commit order inside a
-- lane, because a lane's appends are serialised by its advisory lock.
create sequence update_ids;
create table updates (
    lane        int not null,
    id          bigint not null default nextval('update_ids'),
    account_id  uuid not null,
    dedup_key   text not null,
    chat_key    text not null,
    ord         bigint not null default 0,
    raw         bytea not null,
    received_at timestamptz not null default clock_timestamp(),
    primary key (lane, id)
);
create unique index updates_dedup on updates (account_id, dedup_key);

create table lanes (
    id       int primary key,
    done_id  bigint not null default 0, -- updates up to here are normalised
    draining boolean not null default false -- a drain job exists
) with (fillfactor = 20);
insert into lanes (id) select generate_series(0, 31);

create table quarantine (
    id          uuid primary key,
    account_id  uuid not null,
    lane        int not null,
    update_id   bigint not null,
    error       text not null,
    created_at  timestamptz not null default now(),
    resolved_at timestamptz
);
create index on quarantine (created_at);

create table events (
    id                 bigint generated always as identity primary key,
    type               text not null,
    chat_id            uuid,
    message_id         uuid,
    operator_id        uuid,
    former_operator_id uuid,
    everyone           boolean not null default false,
    payload            jsonb,
    created_at         timestamptz not null default clock_timestamp()
);

create table files (
    id         uuid primary key,
    name       text not null default '',
    mime       text not null default '',
    size       bigint not null default 0,
    sha256     text not null default '',
    kind       text not null default 'document',
    state      text not null default 'ready' check (state in ('pending', 'ready', 'failed', 'too_large')),
    owner      text not null default '',
    account_id uuid,
    message_id uuid,
    ref        text not null default '',
    error      text not null default '',
    created_at timestamptz not null default now()
);

create table nodes (
    id         text primary key,
    roles      text[] not null,
    addr       text not null default '',
    version    text not null default '',
    started_at timestamptz not null default now(),
    seen_at    timestamptz not null default now()
) with (fillfactor = 50);

create table idempotency_keys (
    scope      text not null, -- the API key's id
    key        text not null,
    request    bytea not null, -- SHA-256 of the request
    status     int not null,
    response   bytea not null,
    created_at timestamptz not null default now(),
    primary key (scope, key)
);

-- +goose Down
drop table idempotency_keys, nodes, files, events, quarantine, lanes, updates, parked_receipts, limits, outbox,
    message_log, message_parts, messages, outbox_chats, chats, phone_book, customers, audit, api_keys,
    login_failures, sessions, operators, versions, accounts;
drop sequence update_ids;
drop function bump_accounts_version();
drop function message_rank(text);
