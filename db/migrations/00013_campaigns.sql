-- +goose Up
create table campaigns (
    id           uuid primary key,
    name         text not null,
    state        text not null default 'draft' check (state in ('draft', 'scheduled', 'running', 'paused', 'done', 'canceled', 'deleted')),
    definition   jsonb not null, -- campaigns.Definition; as good as frozen from the start on
    files        jsonb not null default '{}', -- by id: message.File of what the definition names
    created_by   text not null default '',
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    start_at     timestamptz, -- scheduled: when it begins
    stop_at      timestamptz, -- what has not been sent by then expires
    started_at   timestamptz, -- the first start
    finished_at  timestamptz,
    reason       text not null default '', -- why it is paused or ended
    accepted     bigint not null default 0, -- recipients; also the last number given
    rejected     bigint not null default 0,
    duplicates   bigint not null default 0,
    variables    text[] not null default '{}', -- names of those that recipients have
    -- Recipients that are pending and have a number above this one were never looked
    -- at; none below it is pending.
    taken        bigint not null default 0,
    retry_from   bigint, -- recipients from this number on that failed are to be queued again
    paced_until  timestamptz not null default '-infinity' -- the campaign's own rate: when its next recipient may go
) with (fillfactor = 50);
create index campaigns_live on campaigns (state, id) where state in ('scheduled', 'running', 'paused', 'deleted');

-- A recipient per line of the import, from when their turn comes: until then they lie
-- in campaign_blocks, see below. The table is the campaign's durable queue:
-- state is where the recipient stands in it, status is what the outside is told.
--   pending  its turn has not come (in the order of n, from campaigns.taken on)
--   waiting  something is due at due_at: without a message_id its step is to be begun,
--            else the step's message is out and its wait ends then
--   done     nothing more will be sent; the status may still rise by late receipts
-- Numbers begin at 1. Columns that are looked at by queries for many rows are in no
-- index, so that most changes stay on their page.
create table campaign_recipients (
    campaign_id uuid not null,
    n           bigint not null,
    kind        smallint not null, -- 0 customer, 1 external id, 2 phone
    address     text not null,     -- customer's id, platform's id, E.164 with plus
    timezone    text,
    vars        jsonb,             -- object of texts
    state       text not null default 'pending',
    status      text not null default 'queued', -- sent delivered read failed expired canceled skipped
    reason      text,
    step        smallint not null default 0, -- from 0
    round       smallint not null default 0, -- raised by every retry of what failed
    message_id  uuid, -- of the newest step
    due_at      timestamptz,
    updated_at  timestamptz,
    primary key (campaign_id, n)
) with (fillfactor = 80);
create index campaign_recipients_due on campaign_recipients (campaign_id, due_at, n) where state = 'waiting';

-- Recipients as they were imported, a thousand a row: that takes a fifth of the time
-- of a row each. Whoever begins recipients, or ends them, first calls
-- campaign_unpack, with the campaign's row locked.
create table campaign_blocks (
    campaign_id uuid not null,
    first_n     bigint not null,
    kinds       smallint[] not null,
    addresses   text[] not null,
    timezones   text[], -- null: none has one
    vars        text[], -- null: none has any; else JSON objects
    primary key (campaign_id, first_n)
);
alter table campaign_blocks alter column addresses set storage external, alter column vars set storage external;

-- Makes campaign_recipients hold every recipient of a campaign whose number is up to
-- a bound.
-- +goose StatementBegin
create function campaign_unpack(campaign uuid, up_to bigint) returns void language sql as $$
    with b as (delete from campaign_blocks where campaign_id = campaign and first_n <= up_to returning *)
    insert into campaign_recipients (campaign_id, n, kind, address, timezone, vars)
    select b.campaign_id, b.first_n + r.i - 1, r.kind, r.address, nullif(r.timezone, ''), nullif(r.vars, '')::jsonb
    from b, unnest(b.kinds, b.addresses, b.timezones, b.vars) with ordinality r (kind, address, timezone, vars, i)
$$;
-- +goose StatementEnd

-- Which message is which step of whom. Made in the message's transaction.
create table campaign_sends (
    message_id  uuid primary key,
    campaign_id uuid not null,
    n           bigint not null,
    round       smallint not null default 0,
    step        smallint not null,
    account_id  uuid not null,
    chat_id     uuid not null,
    status      text not null default 'queued', -- the message's, as far as the follower has read
    at          timestamptz not null default now()
) with (fillfactor = 85);
create unique index campaign_sends_step on campaign_sends (campaign_id, n, round, step);

-- How many recipients have a status at a step: the sum of the deltas, which
-- housekeeping folds.
create table campaign_counts (
    campaign_id uuid not null,
    status      text not null,
    step        smallint not null default 0,
    delta       bigint not null,
    at          timestamptz not null default now() -- for the pace: the last minute is not folded
);
create index on campaign_counts (campaign_id);

-- Whom nothing is sent to. The list 'global' holds for every account and
-- campaign, 'account:<id>' for one account; others for campaigns that name them.
create table suppressions (
    list       text not null,
    kind       smallint not null, -- as in campaign_recipients
    address    text not null,
    reason     text not null default '',
    source     text not null default '', -- who or what put it there
    created_at timestamptz not null default now(),
    primary key (list, kind, address)
);

-- Addresses that a platform keeps refusing for good.
create table address_health (
    account_id         uuid not null,
    address            text not null, -- the platform's key of the chat
    permanent_failures int not null default 0,
    last_failure_at    timestamptz,
    last_failure       text not null default '',
    inactive_since     timestamptz,
    primary key (account_id, address)
) with (fillfactor = 85);

alter table outbox add column campaign_id uuid;
create index outbox_campaign on outbox (campaign_id) where campaign_id is not null;

-- +goose Down
drop index outbox_campaign;
alter table outbox drop column campaign_id;
drop function campaign_unpack(uuid, bigint);
drop table address_health, suppressions, campaign_counts, campaign_sends, campaign_blocks, campaign_recipients, campaigns;
