-- What everybody may call in pg_catalog without being named here is what has no state that
-- another role could see or change: whatever is immutable, and what is stable and no `pg_`
-- function. Of the rest, the harmless ones that psql and libraries need. Said again at each start,
-- so that a newer PostgreSQL's functions are closed before anybody has looked at them.
do $rights$
declare
    f regprocedure;
begin
    for f in
        select p.oid::regprocedure
        from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace
          and p.prokind = 'f'
          and has_function_privilege('public', p.oid, 'execute')
          and (p.provolatile = 'v' or (p.provolatile = 's' and p.proname ~ '^(pg|lo|txid)_'))
          and p.prorettype <> all (array['trigger', 'event_trigger', 'language_handler',
              'index_am_handler', 'table_am_handler', 'tsm_handler', 'fdw_handler']::regtype[])
          and p.proname <> all (array[
              -- volatile
              'clock_timestamp', 'timeofday', 'random', 'setseed', 'gen_random_uuid', 'set_config',
              'pg_sleep', 'pg_sleep_for', 'pg_sleep_until', 'pg_is_in_recovery',
              'pg_relation_size', 'pg_table_size', 'pg_indexes_size', 'pg_total_relation_size',
              'pg_partition_tree', 'pg_partition_ancestors', 'pg_collation_actual_version',
              'pg_jit_available', 'random_normal',
              -- stable
              'pg_backend_pid', 'pg_char_to_encoding', 'pg_client_encoding', 'pg_collation_for',
              'pg_collation_is_visible', 'pg_column_compression', 'pg_column_is_updatable',
              'pg_column_size', 'pg_conversion_is_visible', 'pg_cursor', 'pg_describe_object',
              'pg_encoding_to_char', 'pg_function_is_visible', 'pg_get_catalog_foreign_keys',
              'pg_get_constraintdef', 'pg_get_expr', 'pg_get_function_arg_default',
              'pg_get_function_arguments', 'pg_get_function_identity_arguments',
              'pg_get_function_result', 'pg_get_function_sqlbody', 'pg_get_functiondef',
              'pg_get_indexdef', 'pg_get_keywords', 'pg_get_object_address',
              'pg_get_partition_constraintdef', 'pg_get_partkeydef', 'pg_get_ruledef',
              'pg_get_serial_sequence', 'pg_get_statisticsobjdef',
              'pg_get_statisticsobjdef_columns', 'pg_get_statisticsobjdef_expressions',
              'pg_get_triggerdef', 'pg_get_userbyid', 'pg_get_viewdef', 'pg_has_role',
              'pg_identify_object', 'pg_identify_object_as_address',
              'pg_index_column_has_property', 'pg_index_has_property', 'pg_indexam_has_property',
              'pg_is_other_temp_schema', 'pg_my_temp_schema', 'pg_opclass_is_visible',
              'pg_operator_is_visible', 'pg_opfamily_is_visible', 'pg_options_to_table',
              'pg_prepared_statement', 'pg_relation_is_publishable', 'pg_relation_is_updatable',
              'pg_sequence_parameters', 'pg_settings_get_flags', 'pg_show_all_settings',
              'pg_statistics_obj_is_visible', 'pg_table_is_visible', 'pg_timezone_abbrevs',
              'pg_timezone_names', 'pg_trigger_depth', 'pg_ts_config_is_visible',
              'pg_ts_dict_is_visible', 'pg_ts_parser_is_visible', 'pg_ts_template_is_visible',
              'pg_type_is_visible', 'pg_typeof', 'pg_get_acl', 'pg_basetype'])
    loop
        execute format('revoke execute on function %s from public', f);
    end loop;
end
$rights$;
