//! Published templates, and hostile ones.

use serde_json::json;
use time::macros::datetime;

use super::*;

const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const GEMMA: &str = "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}{%- if (message['role'] == 'assistant') -%}{%- set role = 'model' -%}{%- else -%}{%- set role = message['role'] -%}{%- endif -%}{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- endif -%}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}";

const QWEN2: &str = include_str!("tests/qwen2.5.jinja");

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "<bos>", "<eos>").expect("parses")
}

/// Renders a template that needs no messages.
fn render(source: &str) -> Result<String, TemplateError> {
    template(source).render(Conversation::new(&json!([])))
}

#[test]
fn smollm2_starts_with_its_own_system_prompt_unless_given_one() {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    assert_eq!(
        template(SMOLLM2).render(Conversation::new(&messages)).unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\
         <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let messages = json!([{"role": "system", "content": "Be brief."}]);
    let conversation =
        Conversation { add_generation_prompt: false, ..Conversation::new(&messages) };
    assert_eq!(
        template(SMOLLM2).render(conversation).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n"
    );
    assert!(!template(SMOLLM2).supports_tools());
}

#[test]
fn gemma_folds_the_system_prompt_into_the_first_turn() {
    let messages = json!([
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi "},
        {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"},
    ]);
    assert_eq!(
        template(GEMMA).render(Conversation::new(&messages)).unwrap(),
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello\
         <end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn gemma_refuses_two_user_turns_with_its_own_words() {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
    let error = template(GEMMA).render(Conversation::new(&messages)).unwrap_err();
    assert_eq!(error.code(), "template_raised");
    assert!(error.to_string().contains("must alternate"), "{error}");
}

#[test]
fn qwen_lists_tools_and_calls_as_python_writes_json() {
    let messages = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [
            {"function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2}}}]},
        {"role": "tool", "content": "sunny"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "weather", "a": [1, 2.0, null, true, "<'&\">"]}}]);
    let conversation = Conversation { tools: Some(&tools), ..Conversation::new(&messages) };
    let text = template(QWEN2).render(conversation).unwrap();
    let listed = r#"{"type": "function", "function": {"name": "weather", "a": [1, 2.0, null, true, "<'&\">"]}}"#;
    assert!(text.contains(&format!("<tools>\n{listed}\n</tools>")), "{text}");
    let called = r#"{"name": "weather", "arguments": {"city": "Zürich", "days": 2}}"#;
    assert!(
        text.contains(&format!(
            "<|im_start|>assistant\n<tool_call>\n{called}\n</tool_call><|im_end|>\n"
        )),
        "{text}"
    );
    assert!(text.ends_with(
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    ));
    assert!(template(QWEN2).supports_tools());
}

#[test]
fn extra_variables_reach_the_template_but_replace_nothing() {
    let extra = json!({"enable_thinking": true, "bos_token": "<evil>"});
    let messages = json!([]);
    let conversation = Conversation { extra: extra.as_object(), ..Conversation::new(&messages) };
    let text = template("{{ bos_token }}{{ eos_token }}{{ enable_thinking }}").render(conversation);
    assert_eq!(text.unwrap(), "<bos><eos>True");
}

#[test]
fn dates_come_from_the_caller_only() {
    let messages = json!([]);
    let now = Some(datetime!(2024-07-05 15:04:09 UTC));
    let conversation = Conversation { now, ..Conversation::new(&messages) };
    let source = "{{ strftime_now('%d %b %Y|%-d %B %y|%A %a|%I%p %H:%M:%S|%j %% %Q') }}";
    let text = template(source).render(conversation).unwrap();
    assert_eq!(text, "05 Jul 2024|5 July 24|Friday Fri|03PM 15:04:09|187 % %Q");
    let source = "{% if strftime_now is defined %}x{% else %}no clock{% endif %}";
    assert_eq!(template(source).render(Conversation::new(&messages)).unwrap(), "no clock");
}

#[test]
fn pythons_string_methods_work() {
    let source = "{{ ' a b '.strip().split(' ')[-1].upper() }}{{ 'x'.startswith('x') }}";
    assert_eq!(render(source).unwrap(), "BTrue");
}

#[test]
fn tojson_indents_as_python_does() {
    assert_eq!(
        render("{{ {'a': [1]}|tojson(indent=2) }}").unwrap(),
        "{\n  \"a\": [\n    1\n  ]\n}"
    );
}

#[test]
fn template_fuel_exhausted() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    assert_eq!(render(source).unwrap_err().code(), "template_out_of_fuel");
}

#[test]
fn a_string_that_doubles_runs_out_of_fuel_before_memory() {
    let source = format!("{{% set x = 'aaaaaaaa' %}}{}", "{% set x = x ~ x %}".repeat(60));
    assert_eq!(render(&source).unwrap_err().code(), "template_out_of_fuel");
    let error = render("{{ ('a' * 100000000) * 100000000 }}").unwrap_err();
    assert!(matches!(error.code(), "template_out_of_fuel" | "template_render"), "{error}");
}

#[test]
fn an_output_bomb_is_cut_off() {
    let source = "{% set x = 'a' * 1000000 %}{% for i in range(100) %}{{ x }}{% endfor %}";
    assert_eq!(render(source).unwrap_err().code(), "template_output_too_large");
}

#[test]
fn endless_recursion_is_an_error() {
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'chat' %}",
        "{% extends 'chat' %}",
    ] {
        let error = render(source).unwrap_err();
        assert!(matches!(error.code(), "template_render" | "template_out_of_fuel"), "{error}");
    }
}

#[test]
fn deep_values_are_an_error_in_tojson() {
    let source = "{% set ns = namespace(x=1) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}";
    assert_eq!(render(source).unwrap_err().code(), "template_render");
}

#[test]
fn other_files_and_pythons_insides_are_out_of_reach() {
    for source in [
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('id') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
    ] {
        assert_eq!(render(source).unwrap_err().code(), "template_render", "{source}");
    }
}

#[test]
fn sources_that_are_too_large_or_do_not_parse_are_refused() {
    let code = |source: &str| ChatTemplate::new(source, "", "").unwrap_err().code();
    assert_eq!(code(&"x".repeat(SOURCE_BYTES_MAX + 1)), "template_source_too_large");
    assert_eq!(code("{% if %}"), "template_syntax");
    let nested = format!("{}1{}", "{{ ".to_owned() + &"(".repeat(20_000), ")".repeat(20_000));
    assert_eq!(code(&nested), "template_syntax");
}
