-- +goose Up
-- What a key may: requests per second (0: as many as it likes) with so many at
-- once, messages per day (UTC; 0: any number), from which addresses (none: from
-- everywhere), until when.
alter table api_keys
    add column rate double precision not null default 0,
    add column burst int not null default 0,
    add column daily bigint not null default 0,
    add column allow_from text[] not null default '{}',
    add column expires_at timestamptz;
-- From where a person may log in and work; none: from everywhere.
alter table operators add column allow_from text[] not null default '{}';

-- Messages of keys that have a daily limit.
create table api_usage (
    key_id   uuid not null,
    day      date not null,
    messages bigint not null,
    primary key (key_id, day)
) with (fillfactor = 20);

alter table audit
    add column address text not null default '', -- where the actor was
    add column before jsonb,
    add column after jsonb;
create index audit_actor on audit (actor, id);
create index audit_action on audit (action text_pattern_ops, id);
create index audit_target on audit (target, id) where target <> '';
create index audit_at on audit (at);

-- Which sender's name is shown instead of the one that was asked for. The first
-- rule that fits, by position, holds; empty columns fit all.
create table sender_rules (
    id            uuid primary key,
    position      int not null,
    account_id    uuid,
    platform      text not null default '',
    traffic_class text not null default '',
    pattern       text not null default '*', -- of the name that was asked for; * stands for any text
    sender        text not null,
    created_at    timestamptz not null default now()
);

-- Single messages whose time has not come. They are not in the outbox yet, where
-- they would hold up their chat.
create table scheduled (
    message_id  uuid primary key,
    chat_id     uuid not null,
    account_id  uuid not null,
    at          timestamptz not null,
    expires_at  timestamptz not null,
    priority    smallint not null,
    stop_lists  text[] -- checked again when it leaves; null: none are
);
create index scheduled_at on scheduled (at);

-- +goose Down
drop table scheduled, sender_rules;
drop index audit_actor, audit_action, audit_target, audit_at;
alter table audit drop column address, drop column before, drop column after;
drop table api_usage;
alter table operators drop column allow_from;
alter table api_keys drop column rate, drop column burst, drop column daily, drop column allow_from, drop column expires_at;
