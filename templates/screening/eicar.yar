// An example of a lab's own rule, and a way to try whether rules are in force: the harmless test file
// of anti-virus programs is blocked. What `meta` may say: crates/nonstop-screen/RULES.md
rule eicar_test_file
{
    meta:
        verdict = "block"
        says = "it holds the test file of anti-virus programs (EICAR)"
        says_ja = "ウイルス対策ソフトのテストファイル (EICAR) を含みます"
        mend = "samples do not leave: export what you found out about them"
        mend_ja = "検体は持ち出せません。解析結果を書き出してください"
    strings:
        // In two parts, so that this file is not taken for what it finds.
        $a = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D }
        $b = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
    condition:
        $a and $b
}
